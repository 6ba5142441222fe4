"""Dead letters: what gave up, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from outboxkit import queries
from outboxkit.wakeups import CHANNEL

if TYPE_CHECKING:
    import psycopg

# Attempts a replayed job is given on top of those it has had.
REPLAY_ATTEMPTS = 3


async def replay(
    connection: psycopg.AsyncConnection[tuple[Any, ...]],
    dead_letter: int,
    *,
    actor: str,
    attempts: int = REPLAY_ATTEMPTS,
) -> UUID | None:
    """Queue the dead letter's job again, with a new trigger; returns its id, or None when there is nothing to replay.

    Idempotent: of two callers at once one gets the id. One statement; if the process dies here, it happened or it did not.
    """
    row = await (
        await connection.execute(
            queries.load("replay_dead_letter"), {"id": dead_letter, "actor": actor, "attempts": attempts}
        )
    ).fetchone()
    if row is None:
        return None
    await connection.execute("select pg_notify(%s, '')", [CHANNEL])
    job_id: UUID = row[0]
    return job_id
