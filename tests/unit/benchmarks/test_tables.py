"""The benchmarks' tables."""

from benchmarks.machine import describe
from benchmarks.results import Comparison, PerJob, SceneResult, Series
from benchmarks.tables import markdown, terminal

RESULT = SceneResult(
    name="drain",
    title="a relay delivers",
    notes=("What it means.",),
    comparisons=[
        Comparison(
            what="http mode",
            unit="jobs/s",
            ours=Series("relay", [5000, 9000, 10000]),
            floor=Series("aiohttp", [10000, 12000, 12500]),
        ),
        Comparison(what="db mode", unit="ms", ours=Series("", [1.25]), floor=Series("the steps alone", [0.5])),
    ],
    per_job={
        "http mode": PerJob(
            statements=0.0164, transactions=0.0151, wal_bytes=1070.4, dead={"outbox": 1.0}, cpu={"relay": 85.2}
        )
    },
)
MACHINE = describe("18.6", {"fsync": "on"})


def test_the_ratio_comes_first_then_the_median_and_its_spread() -> None:
    """A row starts with the ratio; rates are whole, milliseconds have two places."""
    lines = [line.split("  ") for line in terminal(MACHINE, [RESULT]).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["0.75", "http mode, jobs/s", "9,000 (5,000 to 10,000)", "12,000 (10,000 to 12,500)", "aiohttp"] in rows
    assert ["2.50", "db mode, ms", "1.25 (1.25 to 1.25)", "0.50 (0.50 to 0.50)", "the steps alone"] in rows
    assert ["http mode", "0.016", "0.015", "1,070", "outbox 1.00", "relay 85"] in rows


def test_columns_are_aligned() -> None:
    """Every cell of a column starts under its head."""
    lines = terminal(MACHINE, [RESULT]).splitlines()
    head = next(line for line in lines if "the floor is" in line)
    row = next(line for line in lines if line.endswith("aiohttp"))
    assert head.index("the floor is") == row.index("aiohttp")


def test_markdown_has_the_same_cells_between_pipes() -> None:
    """Head, rule and rows of a table have the same number of columns, and the notes stand above it."""
    page = markdown(MACHINE, [RESULT])
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table[:4]} == {6}
    assert "| 0.75 | http mode, jobs/s | 9,000 (5,000 to 10,000) | 12,000 (10,000 to 12,500) | aiohttp |" in table
    assert page.index("What it means.") < page.index(table[0])
    assert "fsync=on" in page
