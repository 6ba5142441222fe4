"""docs/protocol.md: its SQL is the SQL that is tested, and what it says of tables and arguments is so."""

import re
from pathlib import Path

import psycopg
import pytest

from contract.tables.statements import SQL
from databases import Database

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocol.md"
_BLOCK = re.compile(r"^```sql (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)
_NAME = re.compile(r"`([a-z_]+)`")


def section(title: str) -> str:
    """The text under a heading."""
    return DOCUMENT.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a section's tables, line by line, without their heads."""
    found = [[cell.strip() for cell in row.split(" | ")] for row in _ROW.findall(text)]
    return [row for row in found if not set("".join(row)) <= set("-| ")]


def columns(database: Database) -> dict[str, set[str]]:
    """The columns of every table of the kit."""
    query = (
        "select table_name::text, array_agg(column_name::text) from information_schema.columns"
        " where table_schema = 'outboxkit' group by 1"
    )
    with database.sync() as connection:
        return {table: set(names) for table, names in connection.execute(query).fetchall()}


def test_every_statement_is_quoted_once_and_as_it_is() -> None:
    """A block of SQL in the document is the file that it names, to the letter, and no file is missing."""
    quoted = _BLOCK.findall(DOCUMENT.read_text())
    assert sorted(name for name, _ in quoted) == sorted(path.name for path in SQL.glob("*.sql"))
    assert [name for name, text in quoted if (SQL / name).read_text() != text] == []


def test_every_link_leads_somewhere() -> None:
    """No link of the document is broken."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", DOCUMENT.read_text())
    assert links
    assert [link for link in links if not (DOCUMENT.parent / link).exists()] == []


def test_arguments_are_the_functions(database: Database) -> None:
    """The table of arguments has those of enqueue_job, in its order."""
    with database.sync() as connection:
        query = "select proargnames from pg_proc where oid = 'outboxkit.enqueue_job'::regproc"
        row = connection.execute(query).fetchone()
    assert row is not None
    assert [_NAME.findall(cells[0])[0] for cells in rows(section("Producing"))[1:]] == row[0]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("''", "23514"), ("repeat('k', 201)", "23514"), ("'K', queue => ''", "23514"), ("'K', max_attempts => 0", "23514"),
        ("'K', unique_key => repeat('k', 501)", "23514"), ("'K', traceparent => repeat('t', 201)", "23514"),
        ("'K', run_at => 'infinity'", "23514"), ("null", "23502"), ("'K', null", "23502"), ("'K', queue => null", "23502"),
        ("'K', '{'", "22P02"), (r"""'K', '"\u0000"'""", "22P05"), (r"E'\000'", "22021"),
    ],
)  # fmt: skip
def test_errors_are_the_ones_documented(database: Database, call: str, error: str) -> None:
    """What enqueue_job refuses, it refuses with a SQLSTATE that the document names."""
    assert error in section("Producing")
    with database.sync() as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute(f"select outboxkit.enqueue_job({call})".encode())
    assert raised.value.sqlstate == error


def test_every_column_is_documented_or_internal(database: Database) -> None:
    """A column is either one that may be read, or listed as internal; and nothing is listed that there is not."""
    text = section("The tables")
    documented: dict[str, set[str]] = {}
    table = ""
    for first, second, *_ in rows(text)[1:]:
        table = _NAME.findall(first)[0] if first else table
        documented.setdefault(table, set()).update(_NAME.findall(second.split(";")[0]))
    internal = text.partition("Internal, and free to change:")[2].partition("\n\n")[0]
    there = columns(database)
    for name, named in documented.items():
        rest = {
            column for column in there[name] - named if f"`{column}`" not in internal and f".{column}`" not in internal
        }
        assert (name, named - there[name], rest) == (name, set(), set())
    assert [name for name in there.keys() - documented.keys() if f"`{name}`" not in internal] == []
