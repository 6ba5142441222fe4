"""Claims and what ends them. A lease is (job, attempt, worker): every write here is refused without all three (G3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import msgspec

from outboxkit import queries
from outboxkit.clipping import clip
from outboxkit.handlers import Handlers

if TYPE_CHECKING:
    import psycopg

    Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
    SyncConnection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# A job due within this time is claimed when its trigger comes: clocks differ, and sending it back costs more.
EARLY = timedelta(seconds=2)

# SQLSTATE raised by outboxkit.complete_attempt when the fence misses.
LEASE_LOST = "OBX01"


class Lease(msgspec.Struct, frozen=True):
    """A job that one attempt of one worker holds. Field order is claim_by_ids.sql's."""

    id: UUID
    queue: str
    kind: str
    payload: str
    attempt: int
    max_attempts: int
    run_at: datetime
    created_at: datetime
    traceparent: str | None


class JobState(msgspec.Struct, frozen=True):
    """A job as it stands, for the answer to a trigger that got no lease. Field order is read_states.sql's."""

    id: UUID
    state: str
    kind: str
    attempt: int
    leased_by: UUID | None
    due_in: float


class Ended(msgspec.Struct, frozen=True):
    """What became of a job whose attempt did not succeed."""

    state: str
    attempt: int
    run_at: datetime


async def claim_by_ids(
    connection: Connection, ids: Iterable[UUID], *, handlers: Handlers, worker: UUID, lease: timedelta
) -> list[Lease]:
    """Claim the queued, due jobs among `ids`; waits for a row that somebody else is writing.

    One autocommit statement: if the process dies here, either nothing was claimed or the leases expire and a sweep
    requeues the jobs.
    """
    parameters = {
        "ids": sorted(set(ids)),
        "early": EARLY,
        "worker": worker,
        "lease": lease,
        **_limits(handlers),
    }
    rows = await (await connection.execute(queries.load("claim_by_ids"), parameters)).fetchall()
    return [Lease(*row) for row in rows]


async def claim_due(
    connection: Connection,
    *,
    slots: int,
    handlers: Handlers,
    worker: UUID,
    lease: timedelta,
    overdue: timedelta = timedelta(0),
    excluded: Collection[UUID] = (),
) -> list[Lease]:
    """Claim up to `slots` jobs that have been due for `overdue`; passes over `excluded` and rows that others write."""
    parameters = {
        "slots": slots,
        "overdue": overdue,
        "worker": worker,
        "lease": lease,
        "excluded": list(excluded),
        **_limits(handlers),
    }
    rows = await (await connection.execute(queries.load("claim_due"), parameters)).fetchall()
    return [Lease(*row) for row in rows]


async def read_states(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, JobState]:
    """The jobs as they stand now; one that does not exist is missing."""
    rows = await (await connection.execute(queries.load("read_states"), {"ids": list(ids)})).fetchall()
    return {row[0]: JobState(*row) for row in rows}


async def complete(
    connection: Connection, attempts: Sequence[tuple[UUID, int, str | None]], *, worker: UUID
) -> set[UUID]:
    """Complete attempts, each (job, attempt, result as JSON text); returns the jobs completed.

    One that is missing lost its lease: nothing was written for it, and the caller does nothing more about it.
    """
    ids, tokens, results = zip(*attempts, strict=True)
    parameters = {"ids": list(ids), "attempts": list(tokens), "results": list(results), "worker": worker}
    rows = await (await connection.execute(queries.load("complete_attempts"), parameters)).fetchall()
    return {row[0] for row in rows}


async def end(
    connection: Connection,
    lease: Lease,
    *,
    worker: UUID,
    reason: str,
    error: str,
    delay: timedelta,
    final: bool = False,
) -> Ended | None:
    """End an attempt that did not succeed: retried after `delay`, failed with a dead letter, or cancelled.

    None: the lease was lost and nothing was written.
    """
    parameters = {
        "id": lease.id,
        "attempt": lease.attempt,
        "worker": worker,
        "reason": clip(reason, 200),
        "error": clip(error),
        "delay": delay,
        "final": final,
    }
    row = await (await connection.execute(queries.load("end_attempt"), parameters)).fetchone()
    return None if row is None else Ended(*row)


async def give_back(connection: Connection, attempts: Sequence[tuple[UUID, int]], *, worker: UUID) -> set[UUID]:
    """Give running attempts back unharmed; each is queued at once and does not count. Returns the jobs given back."""
    ids, tokens = zip(*attempts, strict=True)
    parameters = {"ids": list(ids), "attempts": list(tokens), "worker": worker}
    rows = await (await connection.execute(queries.load("give_back"), parameters)).fetchall()
    return {row[0] for row in rows}


def heartbeat(
    connection: SyncConnection,
    attempts: Sequence[tuple[UUID, int, str | None]],
    *,
    worker: UUID,
    lease: timedelta,
) -> tuple[set[UUID], set[UUID]]:
    """Extend leases and store progress (JSON text or None): returns the jobs to cancel, and those that are lost.

    Synchronous: heartbeats have a thread of their own, so that a busy event loop cannot lose a lease.
    """
    ids, tokens, progress = zip(*attempts, strict=True)
    parameters = {"ids": list(ids), "attempts": list(tokens), "progress": list(progress), "worker": worker}
    rows = connection.execute(queries.load("heartbeat"), {**parameters, "lease": lease}).fetchall()
    extended = {row[0] for row in rows}
    cancelled = {row[0] for row in rows if row[1]}
    if len(extended) == len(attempts):
        return cancelled, set()
    lost = connection.execute(
        queries.load("lost_leases"), {"ids": list(ids), "attempts": list(tokens), "worker": worker}
    ).fetchall()
    return cancelled, {row[0] for row in lost}


def _limits(handlers: Handlers) -> dict[str, list[Any]]:
    registered = list(handlers)
    return {"kinds": [h.kind for h in registered], "max_attempts": [h.max_attempts for h in registered]}
