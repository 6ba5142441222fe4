"""Due triggers reach the worker, once and soon."""

import asyncio
from collections import Counter
from typing import Any

import psycopg
import pytest

from databases import Database
from outboxkit_relay.relay import Relay
from relaying import Tables, eventually, running, settings
from sink import Reply, Request, Sink, accepted

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_due_job_is_posted_and_its_trigger_goes(database: Database, db: Tables, sink: Sink) -> None:
    """A due job's id and kind are posted with the secret and the trace; the row goes, the job stays queued."""
    job = await db.enqueue("SEND", trace=TRACE)
    async with running(settings(database, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
    [request] = sink.requests
    assert (request.method, request.path) == ("POST", "/process-job")
    assert (request.job_id, request.kind) == (job, "SEND")
    assert request.headers["x-worker-trigger"] == "test-secret"
    assert request.headers["traceparent"] == TRACE
    assert request.headers["content-type"] == "application/json"
    assert "prefer" not in request.headers
    assert await db.state(job) == "queued"
    assert await db.letters() == []


async def test_a_trace_that_is_no_header_is_left_out(database: Database, db: Tables, sink: Sink) -> None:
    """A traceparent with a line break, which any SQL producer may write, is not sent, and the job goes all the same."""
    await db.enqueue(trace="00-x\r\nx-evil: 1")
    async with running(settings(database, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
    assert "traceparent" not in sink.requests[0].headers
    assert "x-evil" not in sink.requests[0].headers


async def test_the_worker_is_asked_to_wait(database: Database, db: Tables, sink: Sink) -> None:
    """TRIGGER_WAIT_SECONDS is sent as Prefer: wait."""
    await db.enqueue()
    waiting = settings(database, sink.url, TRIGGER_WAIT_SECONDS="30", RELAY_DELIVERY_TIMEOUT_SECONDS="")
    assert waiting.deadline > 30
    async with running(waiting):
        await eventually(db.empty, what="the trigger to be settled")
    assert sink.requests[0].headers["prefer"] == "wait=30"


async def test_a_secret_may_hold_any_character(database: Database, db: Tables, sink: Sink) -> None:
    """A secret with spaces, quotes and letters beyond ASCII arrives as UTF-8."""
    await db.enqueue()
    async with running(settings(database, sink.url, WORKER_TRIGGER_SECRET='a b"ü€')):
        await eventually(db.empty, what="the trigger to be settled")
    assert sink.requests[0].headers["x-worker-trigger"] == 'a b"ü€'


async def test_a_wake_up_is_enough(database: Database, db: Tables, sink: Sink) -> None:
    """With an hour between polls, a NOTIFY gets a job delivered, time after time."""
    async with running(settings(database, sink.url, RELAY_POLL_SECONDS="3600")):
        await eventually(lambda: listening(db), what="the relay to listen")
        for _ in range(10):
            await db.enqueue()
            await eventually(lambda: woken(db), what="the trigger to be settled")


async def listening(db: Tables) -> bool:
    """Whether a relay listens."""
    return bool(await db.value("select count(*) from pg_stat_activity where query ilike 'listen %%'"))


async def woken(db: Tables) -> bool:
    """Wake the relay, and tell whether the outbox is empty."""
    await db.wake()
    return await db.empty()


async def test_a_poll_is_enough(database: Database, db: Tables, sink: Sink) -> None:
    """With nothing to listen to, polling gets a job delivered."""
    nowhere = "postgresql://nobody@127.0.0.1:9/nothing"
    async with running(settings(database, sink.url, DATABASE_LISTEN_URL=nowhere)):
        await db.enqueue()
        await eventually(db.empty, what="the trigger to be settled")


async def test_a_scheduled_job_waits_for_its_time_and_not_for_a_poll(
    database: Database, db: Tables, sink: Sink
) -> None:
    """A job due in 0.4 s is not sent before, and an hour between polls does not delay it."""
    job = await db.enqueue(run_in=0.4)
    async with running(settings(database, sink.url, RELAY_POLL_SECONDS="3600")):
        await eventually(lambda: sink.requests, what="the trigger to be sent")
        assert await db.value("select clock_timestamp() >= run_at from outboxkit.jobs where id = %s", job)


async def test_queues_have_routes(database: Database, db: Tables, sink: Sink) -> None:
    """A queue with a route goes there and nowhere else, and every other queue to the plain address."""
    async with Sink() as other:
        reports = [await db.enqueue(queue="reports") for _ in range(3)]
        plain = [await db.enqueue(queue=name) for name in ("default", "mail")]
        routes = f'{{"reports": "{other.url}"}}'
        async with running(settings(database, sink.url, TRIGGER_ROUTES=routes)):
            await eventually(db.empty, what="every trigger to be settled")
        assert sorted(other.job_ids) == sorted(reports)
        assert sorted(sink.job_ids) == sorted(plain)


async def test_a_slow_worker_does_not_hold_up_another_route(database: Database, db: Tables, sink: Sink) -> None:
    """While one address sits on every delivery it has been given, the other's triggers go."""
    held = asyncio.Event()

    async def wait(request: Request) -> Reply:
        await held.wait()
        return accepted(request)

    async with Sink(wait) as slow:
        await db.enqueue_many(20, queue="slow")
        routes = f'{{"slow": "{slow.url}"}}'
        async with running(settings(database, sink.url, TRIGGER_ROUTES=routes, RELAY_CONCURRENCY="4")):
            await eventually(lambda: len(slow.requests) == 4, what="the slow address to be full")
            await db.enqueue_many(50)
            await eventually(lambda: len(sink.requests) == 50, what="the other address to be served")
            assert len(slow.requests) == 4
            held.set()
            await eventually(db.empty, what="everything to be settled")


async def test_a_slow_delivery_does_not_hold_up_the_next_claim(database: Database, db: Tables, sink: Sink) -> None:
    """One delivery of the first claim never ends, and hundreds of later rows pass it by."""
    stuck = await db.enqueue("STUCK")
    held = asyncio.Event()

    async def answer(request: Request) -> Reply:
        if request.kind == "STUCK":
            await held.wait()
        return accepted(request)

    sink.answering = answer
    await db.enqueue_many(300)
    async with running(settings(database, sink.url, RELAY_CONCURRENCY="8")):
        await eventually(lambda: len(sink.requests) == 301, what="every other row to pass")
        assert await db.value("select count(*) from outboxkit.outbox where job_id = %s", stuck) == 1
        held.set()
        await eventually(db.empty, what="everything to be settled")


async def test_a_stalled_relay_gives_its_line_to_others(database: Database, db: Tables, sink: Sink) -> None:
    """Deliveries were quick, so rows stand in line; when none ends any more, those rows are due for other relays again."""
    held = asyncio.Event()
    await db.enqueue_many(400)

    async def answer(request: Request) -> Reply:
        if len(sink.requests) > 300:
            await held.wait()
        return accepted(request)

    sink.answering = answer
    async with running(settings(database, sink.url, RELAY_CONCURRENCY="8")):
        due = "select count(*) = 400 - 300 - 8 from outboxkit.outbox where due_at <= clock_timestamp()"
        await eventually(lambda: db.value(due), what="all but the deliveries under way to be due")
        held.set()
        await eventually(db.empty, what="every trigger to be settled")


async def test_statements_are_shared_by_many_jobs(
    database: Database, db: Tables, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draining 2,000 jobs takes fewer than one claim and one settlement for every 20 of them."""
    await db.enqueue_many(2000)
    statements = counted_statements(monkeypatch)
    drained = await Relay(settings=settings(database, sink.url)).once()
    assert drained.delivered == 2000
    assert 2000 / 256 <= statements["claim_triggers"] <= 100
    assert 2000 / 200 <= statements["ack_triggers"] <= 100
    assert statements.total() < 250


async def test_an_idle_relay_asks_little(
    database: Database, db: Tables, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is due, a poll costs one look at the outbox and one at the mode, and no claim."""
    async with running(settings(database, sink.url, RELAY_POLL_SECONDS="0.05", SWEEP_INTERVAL_SECONDS="3600")):
        await db.enqueue()
        await eventually(db.empty, what="the relay to be under way")
        statements = counted_statements(monkeypatch)
        await eventually(lambda: statements["next_due"] >= 20, what="twenty polls")
        assert statements["claim_triggers"] <= 1
        assert abs(statements["read_mode"] - statements["next_due"]) <= 5
        assert statements.total() <= 2 * 20 + 10


def counted_statements(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count from now on what any connection of this process executes, by the name of the file it stands in."""
    from outboxkit import queries

    names = ("claim_triggers", "ack_triggers", "retry_triggers", "next_due", "read_mode", "publish_mode")
    known = {queries.load(name): name for name in names}
    counts: Counter[str] = Counter()
    execute = psycopg.AsyncConnection.execute

    async def counting(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if query:  # the pool's check of a connection is empty
            counts[known.get(query, "other")] += 1
        return await execute(self, query, *arguments, **options)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", counting)
    return counts


async def test_two_relays_share_the_work(database: Database, db: Tables, sink: Sink) -> None:
    """Two relays drain 5,000 rows: each row is delivered once, and both deliver (G5)."""
    jobs = await db.enqueue_many(5000)
    which = [settings(database, sink.url, WORKER_TRIGGER_SECRET=name) for name in ("one", "two")]
    async with running(*which):
        await eventually(db.empty, what="every trigger to be settled", within=60)
    assert Counter(sink.job_ids) == Counter(jobs)
    by_relay = Counter(request.headers["x-worker-trigger"] for request in sink.requests)
    assert min(by_relay["one"], by_relay["two"]) > 500


async def test_a_relay_that_holds_its_rows_keeps_nobody_waiting(database: Database, db: Tables, sink: Sink) -> None:
    """A transaction that sits on locked outbox rows does not keep a relay from all the others (SKIP LOCKED)."""
    jobs = await db.enqueue_many(50)
    async with await database.connect(autocommit=False) as holder:
        await holder.execute("select from outboxkit.outbox order by id limit 20 for update")
        async with running(settings(database, sink.url)):
            await eventually(lambda: len(sink.requests) == 30, what="the other rows to be sent")
            assert len(set(sink.job_ids)) == 30
            await holder.rollback()
            await eventually(db.empty, what="every trigger to be settled")
    assert Counter(sink.job_ids) == Counter(jobs)


async def test_the_rate_is_limited(database: Database, db: Tables, sink: Sink) -> None:
    """With 40 triggers a second, a second's worth goes at once and forty more take a second at least."""
    await db.enqueue_many(80)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with running(settings(database, sink.url, RELAY_RATE_LIMIT="40")):
        await eventually(lambda: len(sink.requests) == 80, what="every trigger to be sent")
        assert loop.time() - begin >= 1


async def test_deliveries_are_rolled_up(database: Database, db: Tables, sink: Sink) -> None:
    """Deliveries are counted by mode and outcome, and each acknowledged one stands in one bucket of latency."""
    await db.enqueue_many(7)
    async with running(settings(database, sink.url)) as [relay]:
        await eventually(db.empty, what="every trigger to be settled")
    rows = await db.rows(
        "select mode, outcome, relay, sum(triggers)::int from outboxkit.trigger_stats group by 1, 2, 3"
    )
    assert rows == [("http", "ack", relay.process.id, 7)]
    assert await db.value("select sum(n)::int from outboxkit.trigger_stats, unnest(latency_ms) as n") == 7
