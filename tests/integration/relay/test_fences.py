"""A relay that comes late settles nothing that is no longer its own."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from databases import Database
from outboxkit.database import create_pool
from outboxkit.sweeps import SweepLimits
from outboxkit_contracts import ProblemType
from outboxkit_relay import triggers
from outboxkit_relay.decisions import Bury, Retry
from outboxkit_relay.settlement import Settlement
from outboxkit_relay.triggers import Pool, Queues, Trigger
from relaying import Tables, eventually, running, settings
from sink import RESET, Reply, Request, Sink, accepted, problem

STEAL = "update outboxkit.outbox set claims = claims + 1, due_at = clock_timestamp() + interval '1 hour'"


@pytest.mark.parametrize("late", ["ack", "retry", "bury", "give back"])
async def test_a_late_settlement_leaves_another_relays_claim_alone(
    database: Database, db: Tables, sink: Sink, late: str
) -> None:
    """A relay is frozen past its lease, another claims the row: whatever the first delivery comes to, the row stays."""
    held = asyncio.Event()
    answers = {"ack": accepted, "retry": lambda _: RESET, "bury": lambda _: problem(ProblemType.MALFORMED_REQUEST)}

    async def answer(request: Request) -> Reply:
        await held.wait()
        return answers.get(late, accepted)(request)

    sink.answering = answer
    job = await db.enqueue()
    limits = {"RELAY_POLL_SECONDS": "3600", "SHUTDOWN_GRACE_SECONDS": "0" if late == "give back" else "5"}
    async with running(settings(database, sink.url, **limits)):
        await eventually(lambda: sink.requests, what="the delivery to be under way")
        await db.rows(STEAL)
        before = await db.rows("select id, claims, due_at, attempts, last_error from outboxkit.outbox")
        if late != "give back":
            held.set()
    # The relay has ended, and has settled what it could.
    assert await db.rows("select id, claims, due_at, attempts, last_error from outboxkit.outbox") == before
    assert await db.letters() == []
    assert await db.state(job) == "queued"


async def test_a_late_ack_leaves_the_rearmed_trigger_alone(database: Database, db: Tables, sink: Sink) -> None:
    """The job was claimed, lost its worker and was swept while an old trigger's answer was on its way."""
    held = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await held.wait()
        return accepted(request)

    sink.answering = answer
    job = await db.enqueue()
    limits = {"RELAY_POLL_SECONDS": "3600", "SWEEP_INTERVAL_SECONDS": "0.1"}
    async with running(settings(database, sink.url, **limits)):
        await eventually(lambda: sink.requests, what="the delivery to be under way")
        # A worker claims by id, deletes the trigger, and dies; its lease is over at once.
        await db.rows("delete from outboxkit.outbox")
        await db.rows(
            "update outboxkit.jobs set state = 'running', attempt = 1, max_attempts = 5, leased_by = gen_random_uuid(),"
            " lease_until = clock_timestamp() - interval '1 second'"
        )
        await eventually(db.outbox, what="the sweep to re-arm the job")
        # Nobody may deliver the new trigger while the old answer arrives.
        await db.rows(STEAL)
        held.set()
    assert await db.outbox() == 1
    assert await db.state(job) == "queued"


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """A pool like the relay's."""
    made = create_pool(database.url, application_name="tests")
    await made.open()
    yield made
    await made.close()


async def claimed(pool: Pool, slots: int = 100) -> list[Trigger]:
    """Claim rows as a relay does."""
    async with pool.connection() as connection:
        return await triggers.claim(connection, Queues(), slots=slots, lease=timedelta(seconds=30))


async def test_settlement_counts_its_misses(db: Tables, pool: Pool) -> None:
    """Of a batch, the rows still as claimed are settled, and the others are counted as missed."""
    await db.enqueue_many(10)
    rows = await claimed(pool)
    await db.rows("update outboxkit.outbox set claims = claims + 1 where id = any(%s)", [row.id for row in rows[:3]])
    settlement = Settlement(pool=pool, lease=30, limits=SweepLimits(), busy=lambda: False)
    for row in rows:
        settlement.ack(row)
    await settlement.drained()
    assert settlement.missed == 3
    assert await db.outbox() == 3


async def test_poisoned_text_does_not_stop_its_neighbours(db: Tables, pool: Pool) -> None:
    """†: an error text that Postgres cannot store fails alone; the rest of its batch is written."""
    await db.enqueue_many(10)
    rows = await claimed(pool)
    settlement = Settlement(pool=pool, lease=30, limits=SweepLimits(), busy=lambda: False)
    for number, row in enumerate(rows):
        settlement.retry(row, Retry(delay=60, counted=True, error="\0" if number == 4 else "fine"))
    await settlement.drained()
    assert await db.value("select count(*) from outboxkit.outbox where last_error = 'fine' and attempts = 1") == 9


async def test_a_retry_adds_what_counts(db: Tables, pool: Pool) -> None:
    """A retry moves due_at by its delay, and adds to attempts only when it counts."""
    await db.enqueue_many(2)
    first, second = await claimed(pool)
    settlement = Settlement(pool=pool, lease=30, limits=SweepLimits(), busy=lambda: False)
    settlement.retry(first, Retry(delay=100, counted=True, error="counts"))
    settlement.retry(second, Retry(delay=200, counted=False, error="does not"))
    await settlement.drained()
    rows = await db.rows(
        "select attempts, round(extract(epoch from due_at - clock_timestamp()) / 10)::int from outboxkit.outbox order by id"
    )
    assert rows == [(1, 10), (0, 20)]


async def test_what_is_given_back_is_due_at_once_unless_its_job_is_not(db: Tables, pool: Pool) -> None:
    """A row given back is due now, or when its job is scheduled; nothing is counted and the fence is not lowered."""
    await db.enqueue()
    await db.enqueue("LATER")
    rows = await claimed(pool)
    await db.rows("update outboxkit.jobs set run_at = clock_timestamp() + interval '1 hour' where kind = 'LATER'")
    settlement = Settlement(pool=pool, lease=30, limits=SweepLimits(), busy=lambda: False)
    for row in rows:
        settlement.give_back(row)
    await settlement.drained()
    found = await db.rows("select due_at <= clock_timestamp(), attempts, claims from outboxkit.outbox order by id")
    assert found == [(True, 0, 1), (False, 0, 1)]


async def test_a_burial_is_counted_only_when_it_happened(db: Tables, pool: Pool) -> None:
    """Of two burials one finds its job running: one letter, one count."""
    await db.enqueue_many(2)
    first, second = await claimed(pool)
    await db.rows(
        "update outboxkit.jobs set state = 'running', attempt = 1, leased_by = gen_random_uuid(), lease_until = now()"
        " where id = %s",
        first.job_id,
    )
    settlement = Settlement(pool=pool, lease=30, limits=SweepLimits(), busy=lambda: False)
    for row in (first, second):
        settlement.bury(row, Bury(reason="refused", error="no"))
    await settlement.drained()
    assert settlement.buried == 1
    assert await db.letters() == [(second.job_id, "refused")]
