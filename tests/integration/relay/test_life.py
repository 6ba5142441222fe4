"""Starting, stopping, changing mode, and losing the database."""

import asyncio
import logging
import os
import sys

import pytest

from databases import Database
from outboxkit_cli.embedded import EmbeddedPostgres
from outboxkit_contracts import ProblemType
from outboxkit_relay.relay import Relay
from relaying import LONGEST, QUICK, Tables, eventually, running, settings, tables
from sink import Reply, Request, Sink, accepted, problem


async def holding(sink: Sink) -> asyncio.Event:
    """Make the sink keep every request waiting until the event is set."""
    held = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await held.wait()
        return accepted(request)

    sink.answering = answer
    return held


async def stuck_after(sink: Sink, quick: int) -> asyncio.Event:
    """Make the sink answer so many requests at once and keep the later ones waiting until the event is set.

    After quick deliveries rows stand in line behind those in flight.
    """
    held = asyncio.Event()

    async def answer(request: Request) -> Reply:
        if len(sink.requests) > quick:
            await held.wait()
        return accepted(request)

    sink.answering = answer
    return held


# Nothing but what a test is about takes rows out of the line again.
STEADY = {"RELAY_CONCURRENCY": "8", "RELAY_POLL_SECONDS": "3600"}
DUE = "select count(*) from outboxkit.outbox where due_at <= clock_timestamp()"


async def in_line(db: Tables, sink: Sink) -> bool:
    """Whether of 400 rows 300 are delivered, eight in flight, and others claimed besides."""
    return len(sink.requests) == 308 and await db.value(DUE) < 92


async def test_a_stop_lets_deliveries_end_and_gives_back_the_rest(database: Database, db: Tables, sink: Sink) -> None:
    """On stop, what is in flight is finished and acked; what was only claimed is due again at once, uncounted."""
    held = await stuck_after(sink, 300)
    await db.enqueue_many(400)
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(settings=settings(database, sink.url, **STEADY)).run(stop))
    await eventually(lambda: in_line(db, sink), what="rows in flight and in line")
    stop.set()

    async def only_those_in_flight_are_held() -> bool:
        return bool(await db.value(DUE) == 92)

    await eventually(only_those_in_flight_are_held, what="the rest to be given back")
    held.set()
    await asyncio.wait_for(task, LONGEST)
    assert len(sink.requests) == 308
    assert await db.rows("select count(*)::int, sum(attempts)::int from outboxkit.outbox") == [(92, 0)]
    assert await db.value(DUE) == 92


async def test_a_stop_does_not_wait_beyond_the_grace(database: Database, db: Tables, sink: Sink) -> None:
    """A delivery that does not end is given back when the grace is over: due at once, long before its lease is over."""
    await holding(sink)
    await db.enqueue_many(3)
    stop = asyncio.Event()
    relay = Relay(settings=settings(database, sink.url, SHUTDOWN_GRACE_SECONDS="0.1"))
    task = asyncio.create_task(relay.run(stop))
    await eventually(lambda: len(sink.requests) == 3, what="three deliveries")
    stop.set()
    await asyncio.wait_for(task, 4)
    assert await db.value("select count(*) from outboxkit.outbox where due_at <= clock_timestamp()") == 3


async def test_a_stop_is_not_lost_on_a_part_that_missed_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part whose first cancellation gets lost (psycopg's pool may lose one on Python 3.11) does not keep the relay."""
    lost = 0

    async def listen_on(*_: object, **__: object) -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    monkeypatch.setattr("outboxkit_relay.relay.listening.listen", listen_on)
    async with running(settings(database)):
        await asyncio.sleep(0)
    assert lost == 2


async def test_a_relay_that_is_killed_leaves_rows_that_come_due_again(
    database: Database, db: Tables, sink: Sink
) -> None:
    """Kill -9 in the middle of deliveries: when the lease is over another relay delivers what the dead one had (G4)."""
    await holding(sink)
    jobs = await db.enqueue_many(5)
    short = {"RELAY_DELIVERY_TIMEOUT_SECONDS": "0.5", "RELAY_LEASE_SECONDS": "1"}
    environ = {**os.environ, **QUICK, **short, "DATABASE_URL": database.url, "WORKER_TRIGGER_URL": sink.url}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "outboxkit_cli", "relay", env=environ)
    try:
        await eventually(lambda: len(sink.requests) >= 5, what="the deliveries to be under way")
    finally:
        process.kill()
        await process.wait()
    assert await db.outbox() == 5
    sink.answering = accepted
    before = len(sink.requests)
    async with running(settings(database, sink.url)):
        await eventually(db.empty, what="every trigger to be settled")
    assert set(sink.job_ids[before:]) == set(jobs)


async def test_the_process_row_comes_and_goes(database: Database, db: Tables, sink: Sink) -> None:
    """A running relay shows itself with its mode, and says goodbye when it stops."""
    async with running(settings(database, sink.url)) as [relay]:
        rows = "select id, role, details ->> 'mode' from outboxkit.processes"
        await eventually(lambda: db.rows(rows), what="a sign of life")
        assert await db.rows(rows) == [(relay.process.id, "relay", "http")]
    assert await db.rows(rows) == []


async def published(db: Tables, mode: str) -> bool:
    """Whether this mode is published."""
    return bool(await db.value("select effective_mode = %s from outboxkit.trigger_settings", mode))


@pytest.mark.parametrize(
    ("mode", "variables"),
    [
        ("http", ["WORKER_TRIGGER_URL"]),
        (
            "cloud-tasks",
            ["WORKER_TRIGGER_URL", "CLOUD_TASKS_PROJECT", "CLOUD_TASKS_LOCATION", "CLOUD_TASKS_QUEUE"],
        ),
    ],
)
async def test_a_mode_without_its_variables_is_db(
    database: Database, db: Tables, mode: str, variables: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The relay starts, publishes db and what exactly is missing, says so in the log, and leaves the triggers alone."""
    caplog.set_level(logging.INFO)
    await db.enqueue()
    async with running(settings(database, None, JOB_TRIGGER_MODE=mode)):
        await eventually(lambda: published(db, "db"), what="the mode to be published")
        problems = await db.value("select problems from outboxkit.trigger_settings")
    assert [problem.split(" is not set")[0] for problem in problems] == variables
    assert all(variable in caplog.text for variable in variables)
    assert await db.rows("select claims from outboxkit.outbox") == [(0,)]


@pytest.mark.parametrize("mode", ["db", "none"])
async def test_the_other_modes_leave_triggers_alone_and_sweep(
    database: Database, db: Tables, sink: Sink, mode: str
) -> None:
    """In db and none no trigger is claimed or sent, and expired leases are healed all the same."""
    await db.enqueue()
    await db.rows(
        "update outboxkit.jobs set state = 'running', attempt = 1, max_attempts = 5, leased_by = gen_random_uuid(),"
        " lease_until = clock_timestamp() - interval '1 second'"
    )
    async with running(settings(database, sink.url, JOB_TRIGGER_MODE=mode, SWEEP_INTERVAL_SECONDS="0.1")):
        await eventually(lambda: published(db, mode), what="the mode to be published")
        await eventually(
            lambda: db.value("select count(*) = 1 from outboxkit.jobs where state = 'queued'"), what="the sweep"
        )
    assert sink.requests == []
    assert await db.value("select sum(claims) from outboxkit.outbox") == 0


async def override(db: Tables, mode: str | None) -> None:
    """Set the mode at run time, as the web role does."""
    await db.rows("update outboxkit.trigger_settings set mode_override = %s", mode)


async def test_the_mode_changes_at_run_time(database: Database, db: Tables, sink: Sink) -> None:
    """Db → http → none → the environment's: each takes effect within a poll, and triggers that lay wait for http."""
    async with running(settings(database, sink.url, JOB_TRIGGER_MODE="db")):
        await eventually(lambda: published(db, "db"), what="db")
        first = await db.enqueue()
        await override(db, "http")
        await eventually(db.empty, what="the trigger to be settled")
        assert await published(db, "http")
        await override(db, "none")
        await eventually(lambda: published(db, "none"), what="none")
        await db.enqueue()
        await override(db, None)
        await eventually(lambda: published(db, "db"), what="db again")
        assert await db.rows("select claims from outboxkit.outbox") == [(0,)]
    assert sink.job_ids == [first]


async def test_a_mode_change_gives_back_what_is_not_sent(database: Database, db: Tables, sink: Sink) -> None:
    """Switching to db with rows in line: those in flight are finished, the others are due for the pollers at once."""
    held = await stuck_after(sink, 300)
    await db.enqueue_many(400)
    async with running(settings(database, sink.url, **STEADY)):
        await eventually(lambda: in_line(db, sink), what="rows in flight and in line")
        await override(db, "db")

        async def given_back() -> bool:
            await db.wake()
            return bool(await db.value(DUE) == 92)

        await eventually(given_back, what="the line to be given back")
        held.set()
    assert len(sink.requests) == 308
    assert await db.outbox() == 92


async def test_an_override_that_cannot_work_is_not_obeyed(database: Database, db: Tables, sink: Sink) -> None:
    """cloud-tasks set at run time where it is not configured: triggers go on by http, and the problem is published."""
    await override(db, "cloud-tasks")
    await db.enqueue()
    async with running(settings(database, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
        problems = await db.value("select problems from outboxkit.trigger_settings")
    assert len(problems) == 3
    assert all(problem.startswith("the mode was set to cloud-tasks at run time, but CLOUD_") for problem in problems)


async def test_old_triggers_are_buried_by_age(database: Database, db: Tables, sink: Sink) -> None:
    """With RELAY_MAX_AGE, a trigger that cannot be delivered in time gets a dead letter `max-age`; a young one does not."""
    sink.answering = lambda _: problem(ProblemType.NOT_DUE)
    job = await db.enqueue()
    limits = {"RELAY_MAX_AGE": "0.5", "RELAY_MAX_ATTEMPTS": "1000"}
    async with running(settings(database, sink.url, **limits)):
        await eventually(lambda: sink.requests, what="a first try")
        assert await db.letters() == []
        await eventually(db.letters, what="the dead letter")
    assert await db.letters() == [(job, "max-age")]
    assert len(sink.requests) >= 3


async def test_age_stands_still_in_an_outage(database: Database, db: Tables, sink: Sink) -> None:
    """Rows that lay behind an open breaker for longer than RELAY_MAX_AGE are delivered, not buried."""
    sink.answering = lambda _: Reply(502, b"", "text/plain")
    jobs = await db.enqueue_many(30)
    async with running(settings(database, sink.url, RELAY_MAX_AGE="0.5", RELAY_CONCURRENCY="4")):
        old = "select bool_and(run_at < clock_timestamp() - interval '1 second') from outboxkit.jobs"
        await eventually(lambda: db.value(old), what="the rows to be over age by the clock")
        sink.answering = accepted
        await eventually(db.empty, what="everything to arrive")
    assert await db.letters() == []
    assert set(sink.job_ids) == set(jobs)


async def test_a_probe_may_be_of_any_age(database: Database, db: Tables, sink: Sink) -> None:
    """A row that is too old still serves as the probe: the relay does not wait for ever for what it buried."""
    async with running(settings(database, sink.url, RELAY_MAX_AGE="0.2", RELAY_CONCURRENCY="1")):
        await eventually(lambda: published(db, "http"), what="the relay to be under way")
        sink.answering = lambda _: Reply(502, b"", "text/plain")
        [job] = await db.enqueue_many(1)
        # It has served for longer than the age by now; the five faults are not in yet.
        served = "select clock_timestamp() - published_at > interval '0.3 s' from outboxkit.trigger_settings"
        await eventually(lambda: db.value(served), what="the relay to have served a while")
        await db.rows("update outboxkit.jobs set run_at = run_at - interval '1 day'")
        sink.answering = accepted
        await eventually(db.empty, what="the trigger to be settled")
    assert job in sink.job_ids or await db.letters() == [(job, "max-age")]


async def test_rows_that_waited_in_db_mode_are_not_too_old(database: Database, db: Tables, sink: Sink) -> None:
    """A backlog from yesterday, when the mode was db, is delivered after the switch to http."""
    jobs = await db.enqueue_many(10)
    await db.rows("update outboxkit.jobs set run_at = run_at - interval '1 day'")
    async with running(settings(database, sink.url, RELAY_MAX_AGE="3600")):
        await eventually(db.empty, what="everything to arrive")
    assert set(sink.job_ids) == set(jobs)
    assert await db.letters() == []


async def test_a_relay_survives_a_restart_of_postgres(
    private_postgres: EmbeddedPostgres, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Postgres crashes under load and stays away until claims fail: nothing is lost, and the relay goes on by itself."""
    url = private_postgres.url
    async with tables(url) as db:
        jobs = await db.enqueue_many(3000)
    async with running(settings(url, sink.url, RELAY_RATE_LIMIT="2000", RELAY_LEASE_SECONDS="10")):
        await eventually(lambda: len(sink.requests) > 500, what="the relay to be under way")
        await asyncio.to_thread(private_postgres.stop, "immediate")
        await eventually(lambda: "the outbox cannot be read" in caplog.text, what="a claim to fail")
        await asyncio.to_thread(private_postgres.start)
        async with tables(url) as db:
            await eventually(db.empty, what="the rest to arrive", within=60)
            jobs.append(await db.enqueue())
            await eventually(db.empty, what="a later job to arrive")
            assert await db.letters() == []
    assert set(sink.job_ids) == set(jobs)


async def test_acks_outlive_a_restart_of_postgres(
    private_postgres: EmbeddedPostgres, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Deliveries that end while Postgres is down are settled when it is back: nothing is delivered twice."""
    caplog.set_level(logging.INFO)
    held = await holding(sink)
    url = private_postgres.url
    async with tables(url) as db:
        await db.enqueue_many(10)
    async with running(settings(url, sink.url)):
        await eventually(lambda: len(sink.requests) == 10, what="ten deliveries")
        await asyncio.to_thread(private_postgres.stop, "immediate")
        held.set()
        await eventually(lambda: "rows not written yet" in caplog.text, what="a settlement to fail")
        await asyncio.to_thread(private_postgres.start)
        async with tables(url) as db:
            await eventually(db.empty, what="the acks to be written")
    assert len(sink.requests) == 10


async def test_a_relay_starts_before_its_database(private_postgres: EmbeddedPostgres, sink: Sink) -> None:
    """With Postgres down the relay starts and waits; when Postgres comes up it delivers."""
    url = private_postgres.url
    async with tables(url) as db:
        job = await db.enqueue()
    await asyncio.to_thread(private_postgres.stop, "fast")
    async with running(settings(url, sink.url)) as [relay]:
        assert relay.process.role == "relay"
        await asyncio.to_thread(private_postgres.start)
        await eventually(lambda: sink.requests, what="the delivery")
    assert sink.job_ids == [job]


async def test_a_relay_stops_without_its_database(private_postgres: EmbeddedPostgres, sink: Sink) -> None:
    """With Postgres gone for good a relay still ends within its grace and a moment."""
    url = private_postgres.url
    async with running(settings(url, sink.url, SHUTDOWN_GRACE_SECONDS="0.2")):
        async with tables(url) as db:
            await db.enqueue()
            await eventually(db.empty, what="the relay to be under way")
        await asyncio.to_thread(private_postgres.stop, "immediate")
        before = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - before < 5
