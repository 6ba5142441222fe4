"""The SQL floors: the kit's own statements, one after the other on one connection, with nothing between them.

They go through the kit's thinnest functions, which send a statement and make each row a Struct: so a floor stays
the same SQL when the kit's changes. Where no function sends a statement and does nothing else, it is loaded.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import uuid4

from benchmarks.application import handlers
from benchmarks.database import Connection
from outboxkit import leases
from outboxkit.leases import Lease
from outboxkit.queries import load
from outboxkit_relay import triggers
from outboxkit_relay.triggers import Queues, Trigger

WORKER = uuid4()
LEASE = timedelta(seconds=60)

claim_by_ids = partial(leases.claim_by_ids, handlers=handlers, worker=WORKER, lease=LEASE)
claim_due = partial(leases.claim_due, handlers=handlers, worker=WORKER, lease=LEASE)
claim_triggers = partial(triggers.claim, queues=Queues(), lease=LEASE)


async def drain(connection: Connection, *, batch: int) -> float:
    """Claim and acknowledge triggers until none is left; the seconds it took."""
    started = time.perf_counter()
    while rows := await claim_triggers(connection, slots=batch):
        await acknowledge(connection, rows)
    return time.perf_counter() - started


async def run_triggered(connection: Connection, *, batch: int) -> float:
    """Claim triggers, claim their jobs, complete them, until none is left; the seconds it took."""
    started = time.perf_counter()
    while rows := await claim_triggers(connection, slots=batch):
        await complete(connection, await claim_by_ids(connection, [row.job_id for row in rows]))
    return time.perf_counter() - started


async def run_due(connection: Connection, *, batch: int) -> float:
    """Claim due jobs and complete them until none is left; the seconds it took."""
    started = time.perf_counter()
    while rows := await claim_due(connection, slots=batch):
        await complete(connection, rows)
    return time.perf_counter() - started


async def acknowledge(connection: Connection, rows: Sequence[Trigger]) -> None:
    """Delete the triggers that a claim returned."""
    parameters = {"ids": [row.id for row in rows], "claims": [row.claims for row in rows]}
    await connection.execute(load("ack_triggers"), parameters)


async def complete(connection: Connection, claimed: Sequence[Lease]) -> None:
    """Complete the jobs that a claim returned."""
    await leases.complete(connection, [(lease.id, lease.attempt, None) for lease in claimed], worker=WORKER)
