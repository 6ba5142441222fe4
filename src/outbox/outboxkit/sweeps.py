"""Sweeps heal what a crash left: expired leases, stranded triggers, rows past their retention (G2, G4).

Relays and workers both run them, at the same time if it comes to that: each is a single autocommit statement with SKIP
LOCKED, repeated until a batch comes back short. There is no lock that elects one sweeper (†): a frozen holder of a session
lock would stop all healing, and connection poolers leak such locks.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from outboxkit import queries
from outboxkit.database import retried
from outboxkit.wakeups import CHANNEL

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import AsyncConnectionPool

    Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
    Pool: TypeAlias = AsyncConnectionPool[Connection]

log = logging.getLogger(__name__)

# Rows a statement: short transactions, so that a sweep never holds many locks for long.
BATCH = 200
RETENTION_BATCH = 1000


class SweepLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take before a sweep steps in. Durations are timedeltas."""

    longest_lease: timedelta = timedelta(hours=1)
    """A lease further ahead than this counts as expired: a clock stepped back."""
    stranded_after: timedelta = timedelta(minutes=5)
    stranded_max: int = 5
    keep_finished: timedelta = timedelta(days=14)


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of sweeps did: counts of jobs."""

    requeued: int = 0
    failed: int = 0
    cancelled: int = 0
    rearmed: int = 0
    stranded: int = 0
    deleted: int = 0


async def heal(connection: Connection, limits: SweepLimits) -> Swept:
    """Requeue or fail every job whose lease expired, and re-arm or fail every stranded one.

    If the process dies between batches, what was swept is swept, and the next sweep goes on.
    """
    expired = await _repeat(connection, "sweep_expired_leases", {"longest": limits.longest_lease}, BATCH)
    stranded = await _repeat(
        connection, "sweep_stranded", {"after": limits.stranded_after, "rescues": limits.stranded_max}, BATCH
    )
    states = [state for _, state, _, _ in expired]
    swept = Swept(
        requeued=states.count("queued"),
        failed=states.count("failed"),
        cancelled=states.count("cancelled"),
        rearmed=sum(state == "queued" for _, state, _, _ in stranded),
        stranded=sum(state == "failed" for _, state, _, _ in stranded),
    )
    for why, rows in (("lease-expired", expired), ("stranded", stranded)):
        for job_id, state, attempt, traceparent in rows:
            about = {"job_id": job_id, "attempt": attempt, "traceparent": traceparent}
            log.warning("swept: %s, now %s", why, state, extra=about)
    if swept.requeued or swept.rearmed:
        await connection.execute("select pg_notify(%s, '')", [CHANNEL])
    return swept


async def retire(connection: Connection, limits: SweepLimits) -> int:
    """Delete what is past its retention, in small batches; returns how many jobs. A job with an open dead letter stays."""
    keep = {"keep": limits.keep_finished}
    jobs = await _repeat(connection, "sweep_finished_jobs", keep, RETENTION_BATCH)
    await _repeat(connection, "sweep_replayed_letters", keep, RETENTION_BATCH)
    await _retire_records(connection, limits)
    return len(jobs)


async def _retire_records(connection: Connection, limits: SweepLimits) -> None:
    parameters = {"keep": limits.keep_finished, "batch": RETENTION_BATCH}
    while True:
        cursor = await retried(lambda: connection.execute(queries.load("sweep_records"), parameters))
        row = await cursor.fetchone()
        if row is None or row[0] < RETENTION_BATCH:
            return


async def sweep_for_ever(
    pool: Pool, limits: SweepLimits, *, interval: float, retention_interval: float = 300.0
) -> None:
    """Heal every `interval` seconds, and retire now and then, until cancelled. A failed round is logged and repeated."""
    since_retirement = retention_interval
    while True:
        try:
            async with pool.connection() as connection:
                await heal(connection, limits)
                if since_retirement >= retention_interval:
                    await retire(connection, limits)
                    since_retirement = 0.0
        except Exception as error:  # noqa: BLE001 (the database may be away; healing must outlive that)
            log.warning("a sweep failed, next one in %.1f s: %s", interval, error)
        # Spread, so that many processes started together do not sweep together.
        pause = interval * random.uniform(0.8, 1.2)  # noqa: S311 (no secret)
        await asyncio.sleep(pause)
        since_retirement += pause


async def _repeat(connection: Connection, name: str, parameters: dict[str, Any], batch: int) -> list[tuple[Any, ...]]:
    swept: list[tuple[Any, ...]] = []
    while True:
        cursor = await retried(lambda: connection.execute(queries.load(name), {**parameters, "batch": batch}))
        rows = await cursor.fetchall()
        swept += rows
        if len(rows) < batch:
            return swept
