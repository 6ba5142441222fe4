"""The demo's table of jobs."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from outboxkit_cli.board import Board, JobRow

START = datetime(2030, 1, 1, tzinfo=UTC)


def job(name: str, state: str, *, waited: float | None = None, took: float | None = None) -> JobRow:
    """A job that waited and took so many milliseconds."""
    started = None if waited is None else START + timedelta(milliseconds=waited)
    finished = None if started is None or took is None else started + timedelta(milliseconds=took)
    return JobRow(
        id=name, kind=name, section="", state=state, created_at=START, started_at=started, finished_at=finished
    )


@pytest.fixture
def written() -> list[str]:
    """What the table printed, without its colours."""
    return []


def board(written: list[str], *, live: bool) -> Board:
    """A table that notes what it prints."""
    return Board(live=live, write=lambda text: written.append(click.unstyle(text)))


def test_a_pipe_gets_each_job_once_when_it_ends(written: list[str]) -> None:
    """Without a terminal, a line is printed for each job as it ends, and never twice."""
    table = board(written, live=False)
    table.update([job("A", "running", waited=5)])
    table.update([job("A", "succeeded", waited=5, took=7.25), job("B", "queued")])
    table.update([job("A", "succeeded", waited=5, took=7.25), job("B", "failed", waited=1, took=2)])
    assert [line.split() for line in written] == [
        ["A", "5.0", "ms", "7.2", "ms", "succeeded"],
        ["B", "1.0", "ms", "2.0", "ms", "failed"],
    ]


def test_a_terminal_gets_the_table_drawn_over_itself(written: list[str]) -> None:
    """In a terminal the cursor goes up as many lines as the table had, and it is drawn anew."""
    table = board(written, live=True)
    table.update([job("A", "queued")])
    table.update([job("A", "running", waited=5), job("B", "queued")])
    table.update([job("A", "succeeded", waited=5, took=7), job("B", "queued")])
    assert len(written) == 3
    assert "\n" not in written[0]
    assert written[1].count("\n") == written[2].count("\n") == 1


def test_nothing_is_drawn_when_nothing_changed(written: list[str]) -> None:
    """The same jobs in the same states print nothing."""
    table = board(written, live=True)
    table.update([job("A", "queued")])
    table.update([job("A", "queued")])
    assert len(written) == 1
