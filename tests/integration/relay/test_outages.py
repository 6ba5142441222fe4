"""A broken endpoint is not a broken message (G6). Bad releases are in tests/contract/relay/test_bad_deploys.py."""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from databases import Database
from outboxkit_contracts import ProblemType
from relaying import Tables, eventually, running, settings
from sink import GARBAGE, RESET, Reply, Request, Sink, accepted, free_port, problem

# Probes are a few milliseconds apart in these tests, and thirty seconds in life: 300 of them are two and a half hours.
PROBES = 300


async def nothing_was_held_against_the_rows(db: Tables, count: int) -> None:
    """No dead letter, every row still there, and no attempt counted."""
    assert await db.letters() == []
    assert await db.rows("select count(*)::int, sum(attempts)::int from outboxkit.outbox") == [(count, 0)]


@pytest.mark.parametrize(
    "stranger",
    [
        lambda _: problem(ProblemType.UNAUTHORIZED),
        lambda _: GARBAGE,
        lambda _: Reply(404, b"<h1>nginx</h1>", "text/html"),
        lambda _: RESET,
    ],
    ids=["wrong secret", "another protocol", "another service", "resets"],
)
async def test_a_backlog_behind_a_broken_endpoint_survives(
    database: Database, db: Tables, sink: Sink, stranger: Callable[[Request], Reply]
) -> None:
    """2,000 rows behind a wrong secret, a wrong service or resets: hours of probes bury none, and all arrive in the end."""
    jobs = await db.enqueue_many(2000)
    sink.answering = stranger
    async with running(settings(database, sink.url, RELAY_MAX_ATTEMPTS="1")):
        await eventually(lambda: len(sink.requests) >= PROBES, what=f"{PROBES} faults")
        await nothing_was_held_against_the_rows(db, 2000)
        before = len(sink.requests)
        sink.answering = accepted
        await eventually(db.empty, what="the backlog to arrive", within=60)
    assert set(sink.job_ids[before:]) == set(jobs)
    assert await db.letters() == []


async def test_a_backlog_behind_a_dead_address_survives(database: Database, db: Tables) -> None:
    """The same when nobody listens at all; the worker that starts there at last gets everything."""
    jobs = await db.enqueue_many(500)
    port = free_port()
    async with running(settings(database, f"http://127.0.0.1:{port}", RELAY_MAX_ATTEMPTS="1")):
        tries = "select sum(claims) >= 300 from outboxkit.outbox"
        await eventually(lambda: db.value(tries), what="many probes")
        await nothing_was_held_against_the_rows(db, 500)
        async with Sink(port=port) as sink:
            await eventually(db.empty, what="the backlog to arrive")
            assert set(sink.job_ids) == set(jobs)
    assert await db.letters() == []


async def test_an_open_breaker_sends_probes_only(database: Database, db: Tables, sink: Sink) -> None:
    """Once the breaker is open one row goes out at a time, and never the same row twice in a row."""
    at_once = most = 0
    await db.enqueue_many(100)

    async def refuse(_: Request) -> Reply:
        nonlocal at_once, most
        at_once += 1
        if len(sink.requests) > 20:  # those under way when it opened have ended
            most = max(most, at_once)
        await asyncio.sleep(0.002)  # what a worker takes; deliveries at the same time overlap here
        at_once -= 1
        return Reply(502, b"", "text/plain")

    sink.answering = refuse
    limits = {"RELAY_CONCURRENCY": "16", "RELAY_BACKOFF_BASE": "0.05"}
    async with running(settings(database, sink.url, **limits)):
        await eventually(lambda: len(sink.requests) >= 60, what="forty probes")
    assert most == 1
    probed = sink.job_ids[20:60]
    assert all(one != other for one, other in pairwise(probed))
    assert len(set(probed)) >= 20


async def test_an_opening_breaker_gives_back_what_is_not_sent(database: Database, db: Tables, sink: Sink) -> None:
    """With an hour until the first probe, a thousand rows cost what was in flight; the rest is due again, uncounted."""
    everybody = asyncio.Event()

    async def answer(_: Request) -> Reply:
        if len(sink.requests) >= 64:
            everybody.set()
        await everybody.wait()
        return Reply(502, b"", "text/plain")

    sink.answering = answer
    await db.enqueue_many(1000)
    hour = (
        "RELAY_POLL_SECONDS",
        "RELAY_PROBE_BASE_SECONDS",
        "RELAY_PROBE_MAX_SECONDS",
        "RELAY_BACKOFF_BASE",
        "RELAY_BACKOFF_MAX",
    )
    limits = {"RELAY_CONCURRENCY": "64", "RELAY_BREAKER_FAULTS": "1", **dict.fromkeys(hour, "3600")}
    async with running(settings(database, sink.url, **limits)):
        due = "select count(*) from outboxkit.outbox where due_at <= clock_timestamp() and attempts = 0"

        async def given_back() -> bool:
            return everybody.is_set() and await db.value(due) == 1000 - 64

        await eventually(given_back, what="the rest to be given back")
        assert await db.value("select count(*) from outboxkit.outbox where claims > 0") > 64
    assert len(sink.requests) == 64


async def test_an_outage_of_one_address_is_its_own(database: Database, db: Tables, sink: Sink) -> None:
    """While one route's worker is down, the other's is served, and the other way round when it is back."""
    port = free_port()
    routes = f'{{"reports": "http://127.0.0.1:{port}"}}'
    broken = await db.enqueue_many(50, queue="reports")
    async with running(settings(database, sink.url, TRIGGER_ROUTES=routes)):
        healthy = await db.enqueue_many(50)
        await eventually(lambda: len(sink.requests) == 50, what="the healthy address to be served")
        assert set(sink.job_ids) == set(healthy)
        async with Sink(port=port) as other:
            await eventually(db.empty, what="the backlog to arrive")
            assert set(other.job_ids) == set(broken)


async def test_bad_messages_among_good_ones_are_all_buried(database: Database, db: Tables, sink: Sink) -> None:
    """Ten bad messages among two hundred are each buried: acks between them show that the worker is well."""
    jobs = await db.enqueue_many(200)
    bad = set(jobs[::20])

    def answer(request: Request) -> Reply:
        return problem(ProblemType.MALFORMED_REQUEST) if request.job_id in bad else accepted(request)

    sink.answering = answer
    async with running(settings(database, sink.url, RELAY_CONCURRENCY="4")):
        await eventually(db.empty, what="every trigger to be settled")
    assert {job for job, _ in await db.letters()} == bad


async def test_a_row_that_breaks_a_healthy_worker_is_buried(database: Database, db: Tables, sink: Sink) -> None:
    """A row whose every delivery ends in a reset is buried after its attempts, because others are acked in between."""
    poison = await db.enqueue("POISON")
    await db.enqueue_many(200)

    def answer(request: Request) -> Reply:
        return RESET if request.kind == "POISON" else accepted(request)

    sink.answering = answer
    async with running(settings(database, sink.url, RELAY_MAX_ATTEMPTS="3", RELAY_CONCURRENCY="2")):

        async def buried() -> bool:
            await db.enqueue_many(5)  # the worker has other work all the time
            return bool(await db.letters())

        await eventually(buried, what="the poisoned row to be buried")
        await eventually(db.empty, what="the others to be settled")
    assert await db.rows("select job_id, reason, attempts from outboxkit.dead_letters") == [
        (poison, "endpoint-fault", 3)
    ]
    # The first fault counts nothing: nothing was known of the endpoint since.
    assert Counter(sink.job_ids)[poison] == 4
