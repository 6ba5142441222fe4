"""`outboxkit conformance`: the suite from a shell, its progress, its table and its exit status."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Final

import click
import httpx
import msgspec
import psycopg

from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.terminal import is_terminal
from outboxkit_contracts.conformance import Check, CommandJobs, Jobs, Level, NoJobs, Result, Target, run, select
from outboxkit_contracts.conformance.database import DatabaseJobs, Kind, first_line
from outboxkit_contracts.conformance.reports import FORMATS, Report

MARKS: Final = {"passed": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("-", "yellow")}
TITLE: Final = 84
PLACE: Final = 30


class ConformanceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    url: str
    secret: str | None
    headers: tuple[tuple[str, str], ...]
    job_id_command: str | None
    database_url: str | None
    kind: Kind | None
    slow_kind: Kind | None
    failing_kind: Kind | None
    slots: int | None
    level: str
    only: tuple[str, ...]
    deadline: float
    examples: int
    reports: tuple[tuple[str, Path], ...]
    strict: bool


def conformance(options: ConformanceOptions) -> int:
    """Check a worker and say how it went; returns the exit status.

    0 when nothing failed (and with `strict` nothing was skipped), else 1. Raises UsageError for options that do not go
    together and CommandFailed when there is no worker or no database at the address; then nothing was sent and no report
    is written.
    """
    selected = chosen(options)
    with jobs(options) as source:
        target = Target(
            url=options.url,
            secret=options.secret,
            jobs=source,
            headers=options.headers,
            deadline=options.deadline,
            slots=options.slots,
            examples=options.examples,
        )
        reach(target)
        click.echo(f"Conformance of {target.base}, level {options.level}: {len(selected)} checks\n")
        report = report_of(target, Level(options.level), selected)
    show_failures(report)
    for name, path in options.reports:
        path.write_bytes(FORMATS[name][1](report))
        click.echo(f"{name}: {path}")
    failed = report.counts["failed"] > 0
    click.secho(report.summary, fg="red" if failed else "green", bold=True)
    return int(failed or (options.strict and report.counts["skipped"] > 0))


def chosen(options: ConformanceOptions) -> Sequence[Check]:
    """Return the checks to run."""
    try:
        return select(Level(options.level), options.only)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from error


@contextmanager
def jobs(options: ConformanceOptions) -> Iterator[Jobs]:
    """Open the source of jobs that the options name."""
    if options.database_url is None:
        if options.kind or options.slow_kind or options.failing_kind:
            raise click.UsageError("--kind, --slow-kind and --failing-kind go with --database-url")
        yield NoJobs() if options.job_id_command is None else CommandJobs(options.job_id_command)
        return
    if options.job_id_command is not None:
        raise click.UsageError("give --job-id-command or --database-url, not both")
    if options.kind is None:
        raise click.UsageError("--database-url needs --kind: a kind of job that the worker has a handler for")
    try:
        source = DatabaseJobs(
            options.database_url, quick=options.kind, slow=options.slow_kind, failing=options.failing_kind
        )
    except psycopg.Error as error:
        raise CommandFailed(f"the database cannot be used: {first_line(error)}") from error
    with source:
        yield source


def reach(target: Target) -> None:
    """Check that something answers at the address, before every check says that nothing does."""
    try:
        httpx.get(f"{target.base}/health", timeout=target.deadline, trust_env=False, headers=target.headers)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise CommandFailed(f"no worker answers at {target.base}: {str(error) or type(error).__name__}") from error


def report_of(target: Target, level: Level, selected: Sequence[Check]) -> Report:
    """Run the checks, printing each as it ends."""
    began, started = datetime.now(UTC), monotonic()
    results: list[Result] = []
    group = ""
    results_to_come = run(target, selected)
    for check in selected:
        if check.group != group:
            group = check.group
            click.secho(f"  {group}", bold=True)
        if is_terminal():
            click.secho(f"  … {check.title}"[:TITLE], dim=True, nl=False)
        results.append(next(results_to_come))
        show(results[-1])
    return Report(url=target.base, level=level, started=began, seconds=monotonic() - started, results=results)


def show(result: Result) -> None:
    """Print a line of the table; in a terminal in place of the line that says what is under way."""
    mark, colour = MARKS[result.outcome]
    over = "\r\x1b[2K" if is_terminal() else ""
    place = click.style(f"{result.check.place:<{PLACE}}", dim=True)
    click.echo(f"{over}  {click.style(mark, fg=colour)} {result.check.title:<{TITLE}} {place} {result.seconds:6.2f} s")
    if result.outcome == "skipped":
        click.echo(f"    skipped: {result.message}")


def show_failures(report: Report) -> None:
    """Print what failed: what was due, where the document says so, and how to see it."""
    click.echo()
    for result in report.results:
        if result.outcome == "failed":
            click.echo(
                f"{click.style('✗', fg='red')} {click.style(result.check.name, bold=True)}  {result.check.title}"
            )
            click.echo(f"    what      {result.message}")
            click.echo(f"    document  {result.check.place}")
            if result.reproduce:
                click.echo(f"    try       {result.reproduce}")
            click.echo()


def kind(text: str | None, option: str) -> Kind | None:
    """Read `KIND` or `KIND={"json": 1}`."""
    try:
        return None if text is None else Kind.parse(text)
    except ValueError as error:
        raise click.BadParameter(f"the payload is not JSON: {error}", param_hint=option) from error


def header(text: str) -> tuple[str, str]:
    """Read `Name: value`; what is wrong is said without the value, which may be a secret."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter("a header is written 'Name: value'", param_hint="--header")
    return name.strip(), value.strip()


def report(text: str) -> tuple[str, Path]:
    """Read `FORMAT` or `FORMAT=FILE`."""
    name, _, file = text.partition("=")
    if name not in FORMATS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(FORMATS)}", param_hint="--report")
    path = Path(file or FORMATS[name][0])
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}", param_hint="--report")
    return name, path
