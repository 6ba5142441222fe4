"""What happens to triggers: the mode asked for, and the one that is in force."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import msgspec

from outboxkit import queries

if TYPE_CHECKING:
    import psycopg

    Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

# A relay publishes every few seconds; one that has been silent this long is taken for dead.
FRESH = timedelta(seconds=30)


class Mode(StrEnum):
    """JOB_TRIGGER_MODE."""

    DB = "db"
    HTTP = "http"
    CLOUD_TASKS = "cloud-tasks"
    NONE = "none"


class PublishedMode(msgspec.Struct, frozen=True):
    """The mode in force as the database tells it. Field order is read_mode.sql's."""

    override: str | None
    effective: str | None
    problems: list[str]
    fresh: bool

    def effective_or(self, own: Mode) -> Mode:
        """The mode a live relay published, else the override, else this process's own setting."""
        if self.fresh and self.effective is not None:
            return Mode(self.effective)
        return Mode(self.override) if self.override is not None else own


async def read(connection: Connection, *, fresh: timedelta = FRESH) -> PublishedMode:
    """The published mode; `fresh` is how recent a relay's word must be to count."""
    row = await (await connection.execute(queries.load("read_mode"), {"fresh": fresh})).fetchone()
    return PublishedMode(*row) if row is not None else PublishedMode(None, None, [], False)


async def publish(connection: Connection, mode: Mode, *, process: UUID, problems: list[str]) -> None:
    """Tell web and worker which mode is in force, and why it is not the one asked for. Only relays do."""
    await connection.execute(
        queries.load("publish_mode"),
        {"mode": mode.value, "process": process, "problems": msgspec.json.encode(problems).decode()},
    )
