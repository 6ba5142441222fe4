"""The table of jobs that the demo shows while they run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import click

HEADING = f"  {'job':<14}{'section':<14}{'commit → trigger':>17}{'trigger → done':>17}  state"
COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "red", "running": "yellow"}
ENDED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One job as the table shows it; the times are the database's."""

    id: str
    kind: str
    section: str
    state: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    def line(self) -> str:
        """Return the job's line: what it is, how long it waited for its trigger, how long it then took."""
        waited = milliseconds(self.created_at, self.started_at)
        took = milliseconds(self.started_at, self.finished_at)
        state = click.style(self.state, fg=COLOURS.get(self.state))
        return f"  {self.kind:<14}{self.section:<14}{waited:>17}{took:>17}  {state}"


def milliseconds(start: datetime | None, end: datetime | None) -> str:
    """Return the time between two instants, or nothing when one has not come yet."""
    if start is None or end is None:
        return ""
    return f"{(end - start).total_seconds() * 1000:.1f} ms"


class Board:
    """Shows jobs as they change: in a terminal the table is drawn over itself, in a pipe each job is printed once it ends.

    The order is that in which jobs were made.
    """

    def __init__(self, *, live: bool, write: Callable[[str], None]) -> None:
        self._live = live
        self._write = write
        self._drawn = 0
        self._last: Sequence[JobRow] = ()
        self._printed: set[str] = set()

    def open(self) -> None:
        """Print the heading."""
        self._write("\n" + click.style(HEADING, bold=True))

    def update(self, rows: Sequence[JobRow]) -> None:
        """Show the jobs as they are now."""
        if rows == self._last:
            return
        self._last = rows
        if self._live:
            self._redraw(rows)
        else:
            self._append(rows)

    def _redraw(self, rows: Sequence[JobRow]) -> None:
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        # To the start of the table, then each line cleared before it is written.
        self._write(up + "\n".join(f"\x1b[2K{row.line()}" for row in rows))
        self._drawn = len(rows)

    def _append(self, rows: Sequence[JobRow]) -> None:
        for row in rows:
            if row.state in ENDED and row.id not in self._printed:
                self._printed.add(row.id)
                self._write(row.line())
