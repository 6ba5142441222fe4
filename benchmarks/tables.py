"""Results as text: aligned columns for a terminal, or markdown."""

from collections.abc import Sequence

from benchmarks.machine import Machine
from benchmarks.results import Comparison, PerJob, SceneResult, Series

Table = Sequence[Sequence[str]]
COMPARED = ("ratio", "what", "ours", "floor", "the floor is")
COUNTED = ("a job takes", "statements", "writing tx", "WAL bytes", "dead rows", "CPU µs")


def terminal(machine: Machine, results: Sequence[SceneResult]) -> str:
    """The whole report for a terminal."""
    lines = [*machine.lines(), ""]
    for result in results:
        lines += [f"{result.name}: {result.title}", *(f"  {note}" for note in result.notes), ""]
        for table in tables(result):
            lines += [*(f"  {line}" for line in aligned(table)), ""]
    return "\n".join(lines)


def markdown(machine: Machine, results: Sequence[SceneResult]) -> str:
    """The whole report as a markdown page."""
    lines = ["# Measured against the floor", "", *(f"- {line}" for line in machine.lines()), ""]
    for result in results:
        lines += [f"## {result.name}: {result.title}", "", *result.notes, ""]
        for table in tables(result):
            lines += [*piped(table), ""]
    return "\n".join(lines)


def tables(result: SceneResult) -> list[Table]:
    """The scene's comparisons and, where it counted something, its counts; the first row of each is the head."""
    found: list[Table] = [[COMPARED, *(compared(each) for each in result.comparisons)]]
    if result.per_job:
        found.append([COUNTED, *(counted(what, each) for what, each in result.per_job.items())])
    return found


def compared(comparison: Comparison) -> Sequence[str]:
    """One comparison as a row, the ratio first."""
    return (
        f"{comparison.ratio:.2f}",
        f"{comparison.what}, {comparison.unit}",
        spread(comparison.ours, comparison.unit),
        spread(comparison.floor, comparison.unit),
        comparison.floor.name,
    )


def counted(what: str, per_job: PerJob) -> Sequence[str]:
    """The counts of one thing that was measured, as a row."""
    return (
        what,
        f"{per_job.statements:.3f}",
        f"{per_job.transactions:.3f}",
        f"{per_job.wal_bytes:,.0f}",
        ", ".join(f"{table} {count:.2f}" for table, count in per_job.dead.items()),
        ", ".join(f"{process} {micros:,.0f}" for process, micros in per_job.cpu.items()),
    )


def spread(series: Series, unit: str) -> str:
    """The median, and the lowest and highest round."""
    places = 2 if unit == "ms" else 0
    low, high = min(series.values), max(series.values)
    return f"{series.middle:,.{places}f} ({low:,.{places}f} to {high:,.{places}f})"


def aligned(table: Table) -> list[str]:
    """The table's rows with its columns filled up with blanks."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def piped(table: Table) -> list[str]:
    """The table's rows in markdown."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in table]
    return [head, "|" + "---|" * len(table[0]), *rows]
