"""Claimed outbox rows, and the statements that choose them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from outboxkit import queries

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
Pool: TypeAlias = AsyncConnectionPool[Connection]


class Trigger(msgspec.Struct, eq=False):
    """One outbox row that this relay has claimed. After the first, the fields are claim_triggers.sql's, in its order."""

    claimed_at: float
    """On this process's monotonic clock, taken before the claim was sent: the lease is at most this old."""
    id: int
    job_id: UUID
    queue: str
    kind: str
    traceparent: str | None
    claims: int
    """The fence: settlement is refused when somebody has claimed the row since."""
    attempts: int
    waited: float
    """Seconds from due to claimed, by the database's clock."""
    scheduled_at: datetime | None = None
    """When the job is due, if that is ahead, by the database's clock; only where triggers are claimed ahead."""
    previous: int | None = None
    """The outbox id that was handed over before and seems to be lost; only where triggers are claimed ahead."""
    excused: int | None = None
    """How many of the job's rescues are not held against it: its task was waiting, or its worker did nothing."""


class Queues(msgspec.Struct, frozen=True):
    """The queues of one endpoint: those named, or all but those that others have."""

    only: tuple[str, ...] | None = None
    besides: tuple[str, ...] = ()

    def parameters(self) -> dict[str, Any]:
        """For the statements that choose rows."""
        return {"only": None if self.only is None else list(self.only), "paused": list(self.besides)}


async def claim(
    connection: Connection, queues: Queues, *, slots: int, lease: timedelta, ahead: timedelta | None = None
) -> list[Trigger]:
    """Claim up to `slots` due triggers, the longest due first; passes over rows that others are taking.

    `ahead`: how long before they are due, for a transport that keeps a schedule. One autocommit statement. If the process
    dies after it, the rows come due again when the lease is over.
    """
    claimed_at = monotonic()
    parameters = {**queues.parameters(), "slots": slots, "lease": lease, "ahead": ahead}
    rows = await (await connection.execute(queries.load("claim_triggers"), parameters)).fetchall()
    return [Trigger(claimed_at, *row) for row in rows]


async def next_due(connection: Connection, queues: Queues) -> float | None:
    """Seconds until a trigger is due (claimed ones included: when their lease ends), None when there is none."""
    row = await (await connection.execute(queries.load("next_due"), queues.parameters())).fetchone()
    return None if row is None else row[0]


async def count_due(connection: Connection, queues: Queues) -> int:
    """How many triggers are due now."""
    row = await (await connection.execute(queries.load("count_due"), queues.parameters())).fetchone()
    return 0 if row is None else int(row[0])


async def job_exists(connection: Connection, job_id: UUID) -> bool:
    """Whether the job's row is there."""
    row = await (await connection.execute(queries.load("job_exists"), {"id": job_id})).fetchone()
    return row is not None and bool(row[0])


async def over_age(connection: Connection, job_ids: Iterable[UUID], *, horizon: float) -> set[UUID]:
    """Those of the jobs that should have run more than `horizon` seconds ago."""
    parameters = {"ids": list(job_ids), "horizon": timedelta(seconds=horizon)}
    rows = await (await connection.execute(queries.load("over_age"), parameters)).fetchall()
    return {row[0] for row in rows}
