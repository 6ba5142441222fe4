"""`outboxkit relay --once`: drain, sweep, and tell whether that worked."""

import asyncio

import psycopg
import pytest

from databases import Database
from outboxkit.modes import Mode
from outboxkit_contracts import ProblemType
from outboxkit_relay.relay import Drained, Relay
from relaying import Tables, settings
from sink import Reply, Request, Sink, accepted, free_port, problem

EXPIRED = (
    "update outboxkit.jobs set state = 'running', attempt = 1, max_attempts = 5, leased_by = gen_random_uuid(),"
    " lease_until = clock_timestamp() - interval '1 second'"
)


async def test_once_delivers_what_is_due_and_leaves_what_is_not(database: Database, db: Tables, sink: Sink) -> None:
    """300 due jobs are delivered, one of tomorrow stays and is no failure, and the process row is gone."""
    due = await db.enqueue_many(300)
    await db.enqueue(run_in=86400)
    drained = await Relay(settings=settings(database, sink.url)).once()
    assert drained == Drained(mode=Mode.HTTP, delivered=300)
    assert drained.complete
    assert set(sink.job_ids) == set(due)
    assert await db.outbox() == 1
    assert await db.rows("select id from outboxkit.processes") == []


async def test_once_with_nothing_to_do_ends(database: Database, sink: Sink) -> None:
    """An empty outbox is complete."""
    assert (await Relay(settings=settings(database, sink.url)).once()) == Drained(mode=Mode.HTTP)


async def test_once_delivers_what_it_heals(database: Database, db: Tables, sink: Sink) -> None:
    """A job whose worker died is requeued and triggered in the same run."""
    job = await db.enqueue()
    await db.rows("delete from outboxkit.outbox")
    await db.rows(EXPIRED)
    drained = await Relay(settings=settings(database, sink.url)).once()
    assert (drained.healed, drained.delivered, drained.complete) == (1, 1, True)
    assert sink.job_ids == [job]


async def test_once_retires_what_is_past_its_retention(database: Database, db: Tables, sink: Sink) -> None:
    """Jobs that ended long ago are deleted."""
    await db.enqueue()
    await db.rows("delete from outboxkit.outbox")
    await db.rows("update outboxkit.jobs set state = 'succeeded', finished_at = clock_timestamp() - interval '30 days'")
    assert (await Relay(settings=settings(database, sink.url)).once()).deleted == 1


@pytest.mark.parametrize("backlog", [1, 3, 200])
async def test_once_fails_when_nobody_answers(database: Database, db: Tables, backlog: int) -> None:
    """With a dead worker, once ends by itself and is not complete, however few rows there are; nothing is buried."""
    await db.enqueue_many(backlog)
    nowhere = f"http://127.0.0.1:{free_port()}"
    slow = {
        "RELAY_BACKOFF_BASE": "60",
        "RELAY_BACKOFF_MAX": "60",
        "RELAY_PROBE_BASE_SECONDS": "60",
        "RELAY_PROBE_MAX_SECONDS": "60",
    }
    drained = await Relay(settings=settings(database, nowhere, **slow)).once()
    assert drained.failed_due == backlog
    assert not drained.complete
    assert await db.outbox() == backlog
    assert await db.letters() == []


@pytest.mark.parametrize("kind", [ProblemType.NOT_DUE, ProblemType.UNKNOWN_KIND, ProblemType.WORKER_FULL])
async def test_once_takes_backing_off_for_no_failure(
    database: Database, db: Tables, sink: Sink, kind: ProblemType
) -> None:
    """A row that the worker asked to send later is backing off when once ends, and that is no failure."""
    sink.answering = lambda _: problem(kind, retry_after=60)
    await db.enqueue()
    drained = await Relay(settings=settings(database, sink.url)).once()
    assert drained == Drained(mode=Mode.HTTP, retried=1)
    assert drained.complete


async def test_once_counts_the_dead(database: Database, db: Tables, sink: Sink) -> None:
    """A refused trigger is dead, and no failure to deliver: a person finds it in dead_letters."""
    sink.answering = lambda _: problem(ProblemType.MALFORMED_REQUEST)
    await db.enqueue()
    assert await Relay(settings=settings(database, sink.url)).once() == Drained(mode=Mode.HTTP, dead=1)


async def test_once_stops_when_its_time_is_up(database: Database, db: Tables, sink: Sink) -> None:
    """After max_seconds nothing more is sent; what was in flight may end, and what is left makes it incomplete."""
    held = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await held.wait()
        return accepted(request)

    sink.answering = answer
    await db.enqueue_many(50)
    task = asyncio.create_task(
        Relay(settings=settings(database, sink.url, RELAY_CONCURRENCY="4", SHUTDOWN_GRACE_SECONDS="20")).once(
            max_seconds=0.3
        )
    )
    asyncio.get_running_loop().call_later(0.6, held.set)
    drained = await task
    assert (drained.delivered, drained.failed_due, drained.complete) == (4, 46, False)


@pytest.mark.parametrize("mode", ["db", "none"])
async def test_once_in_the_other_modes_only_sweeps(database: Database, db: Tables, sink: Sink, mode: str) -> None:
    """Triggers are left alone, expired leases are healed, and the run is complete."""
    await db.enqueue()
    await db.rows(EXPIRED)
    drained = await Relay(settings=settings(database, sink.url, JOB_TRIGGER_MODE=mode)).once()
    assert drained == Drained(mode=Mode(mode), healed=1)
    assert sink.requests == []
    assert await db.value("select sum(claims) from outboxkit.outbox") == 0


async def test_once_without_a_database_raises(sink: Sink) -> None:
    """There is nobody to wait for the database: the error is raised."""
    relay = Relay(settings=settings(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", sink.url))
    with pytest.raises(psycopg.OperationalError):
        await relay.once()
