"""What Cloud Tasks loses comes back, and what only waits in it does not (G2)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cloud_tasks import QUEUE, created, task_settings
from databases import Database
from integration.cloud_tasks.conftest import StartWorker
from outboxkit.tasks import end
from outboxkit_cli.cloud_tasks.rates import RateLimits
from outboxkit_cli.cloud_tasks.retries import RetryConfig
from outboxkit_cli.cloud_tasks.server import CloudTasksServer
from outboxkit_relay.settings import RelaySettings
from relaying import Tables, eventually, running
from sink import Reply, Sink
from workers import Gate, Worker

LONG = 60.0


def sweeping(database: Database, google: CloudTasksServer, url: str, **environ: str) -> RelaySettings:
    """A relay that looks for a task that is a second old."""
    quick = {"STRANDED_AFTER_SECONDS": "1", "SWEEP_INTERVAL_SECONDS": "0.1", "WORKER_TASK_SERVICE_ACCOUNT": ""}
    return task_settings(database, google, url, **{**quick, **environ})


async def succeeded(db: Tables) -> int:
    """How many jobs have succeeded."""
    return int(await db.value("select count(*) from outboxkit.jobs where state = 'succeeded'"))


async def effects(db: Tables) -> int:
    """How many effects there are; each job has one."""
    return int(await db.value("select count(*) from effects"))


async def test_a_task_that_is_gone_is_made_again(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """Cloud Tasks takes a task and forgets it: the job gets another one after STRANDED_AFTER."""
    google.faults.vanished = 1.0
    gate.open()
    worker = start_worker()
    await db.enqueue_many(3)
    async with running(sweeping(database, google, worker.url)):
        await eventually(db.empty, what="the triggers to be handed over")
        google.faults.vanished = 0.0
        await eventually(lambda: _all_done(db, 3), what="the jobs to be done", within=LONG)
    assert (created(google), await effects(db)) == (6, 3)


async def _all_done(db: Tables, count: int) -> bool:
    return await succeeded(db) == count


@pytest.mark.parametrize(
    ("denied", "rescues"), [(set(), 2), ({"cloudtasks.tasks.get"}, 1)], ids=["asked for", "forbidden"]
)
async def test_a_task_that_is_never_called_is_made_again(
    database: Database,
    db: Tables,
    google: CloudTasksServer,
    start_worker: StartWorker,
    gate: Gate,
    denied: set[str],
    rescues: int,
) -> None:
    """Cloud Tasks has the task and never calls: it is believed STRANDED_MAX times, then another is made.

    Without cloudtasks.viewer nobody can ask, and the first rescue makes another task.
    """
    google.faults.lost, google.faults.denied = 1.0, denied
    gate.open()
    worker = start_worker()
    await db.enqueue()
    async with running(sweeping(database, google, worker.url, STRANDED_MAX="1")):
        await eventually(db.empty, what="the trigger to be handed over")
        google.faults.lost = 0.0
        google.queue(QUEUE).paused = True  # a claim would set the count of rescues back
        await eventually(lambda: created(google) == 2, what="another task", within=LONG)
        await eventually(db.empty, what="its trigger to be settled")
        assert await db.value("select rescues from outboxkit.jobs") == rescues
        google.queue(QUEUE).paused = False
        google.state.changed.set()
        await eventually(lambda: _all_done(db, 1), what="the job to be done", within=LONG)
    assert (created(google), await effects(db)) == (2, 1)


async def test_a_task_that_was_given_up_is_made_again(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """A worker that is away until Cloud Tasks has used its attempts up, and has deleted the task, gets another one."""
    gate.open()
    google.queue(QUEUE).retries = RetryConfig(max_attempts=2, min_backoff=0.01, max_backoff=0.02)
    worker = start_worker()
    async with Sink(lambda _: Reply(503)) as away:
        await db.enqueue_many(3)
        async with running(sweeping(database, google, away.url)):
            await eventually(lambda: len(away.requests) == 6, what="Cloud Tasks to try twice")
            await eventually(lambda: not google.tasks(QUEUE), what="Cloud Tasks to delete the tasks")
            await eventually(db.empty, what="the triggers to be settled")
    async with running(sweeping(database, google, worker.url)):
        await eventually(lambda: _all_done(db, 3), what="the jobs to be done", within=LONG)
    assert (await effects(db), await db.letters()) == (3, [])


async def test_a_worker_that_refuses_for_ever_ends_in_a_dead_letter(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """Cloud Tasks has nobody to tell about a 400: after STRANDED_MAX rescues the job is dead, where others are done."""
    gate.open()
    worker = start_worker()
    async with Sink(lambda _: Reply(400)) as refusing:
        job = await db.enqueue(queue="bad")
        routes = f'{{"bad": "{refusing.url}"}}'
        async with running(sweeping(database, google, worker.url, STRANDED_MAX="1", TRIGGER_ROUTES=routes)):
            await eventually(lambda: len(refusing.requests) > 2, what="Cloud Tasks to try again and again")
            await eventually(lambda: _rescued(db, 2), what="two rescues that cost no job", within=LONG)
            assert await db.letters() == [], "no job of the queue was done: it may be the worker that is missing"
            async with successes(db, "bad"):
                await eventually(db.letters, what="the dead letter", within=LONG)
    assert await db.letters() == [(job, "stranded")]


@asynccontextmanager
async def successes(db: Tables, queue: str) -> AsyncIterator[None]:
    """A worker does other jobs of this queue, all the time."""

    async def succeed() -> None:
        while True:
            await db.rows(
                "insert into outboxkit.jobs (id, queue, kind, payload, state, run_at, created_at, finished_at)"
                " values (gen_random_uuid(), %s, 'K', '{}', 'succeeded', now(), now(), clock_timestamp())",
                queue,
            )
            await asyncio.sleep(0.1)

    task = asyncio.create_task(succeed())
    try:
        yield
    finally:
        await end(task)


async def test_a_worker_that_was_away_for_long_costs_no_job(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """A worker is away for longer than STRANDED_MAX rescues take; when it is back, its backlog is done, not buried."""
    gate.open()
    google.queue(QUEUE).retries = RetryConfig(max_attempts=2, min_backoff=0.01, max_backoff=0.02)
    worker = start_worker()
    async with Sink(lambda _: Reply(503)) as away:
        await db.enqueue_many(20)
        async with running(sweeping(database, google, away.url, STRANDED_MAX="1")):
            await eventually(lambda: _rescued(db, 2), what="more rescues than STRANDED_MAX", within=LONG)
            await eventually(db.empty, what="the triggers to be settled")
    assert await db.letters() == []
    async with running(sweeping(database, google, worker.url, STRANDED_MAX="1")):
        await db.enqueue()  # a new job, which is done at once
        await eventually(lambda: _ended(db), what="the jobs to end", within=LONG)
    assert (await db.letters(), await succeeded(db), await effects(db)) == ([], 21, 21)


async def _ended(db: Tables) -> bool:
    return bool(await db.value("select not exists (select from outboxkit.jobs where finished_at is null)"))


async def _rescued(db: Tables, times: int) -> bool:
    return bool(await db.value("select max(rescues) >= %s from outboxkit.jobs", times))


async def test_a_long_backlog_is_not_sent_again(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """500 jobs behind one dispatch slot, for more than five times STRANDED_AFTER: at most 1.1 tasks a job."""
    assert await _backlog(database, db, google, start_worker(), gate) <= 1.1


async def test_a_long_backlog_where_asking_is_forbidden(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """The same without cloudtasks.viewer: the doubling alone keeps it at three tasks a job, and each job runs once."""
    google.faults.denied = {"cloudtasks.tasks.get"}
    assert 1 < await _backlog(database, db, google, start_worker(), gate) <= 3


async def _backlog(
    database: Database, db: Tables, google: CloudTasksServer, worker: Worker, gate: Gate, jobs: int = 500
) -> float:
    """Tasks for each job, when the first job holds the only slot until five times STRANDED_AFTER are over."""
    queue = google.queue(QUEUE)
    queue.limit(
        RateLimits(max_dispatches_per_second=500, max_burst_size=100, max_concurrent_dispatches=1), google.state.clock()
    )
    await db.enqueue_many(jobs)
    async with running(sweeping(database, google, worker.url, WORKER_TASK_SERVICE_ACCOUNT="")):
        await eventually(lambda: created(google) >= jobs, what="every job to be handed over", within=LONG)
        await db.rows("create table began as select clock_timestamp() as at")
        await eventually(lambda: _five_times(db), what="five times STRANDED_AFTER")
        made = created(google) / jobs
        gate.open()
        queue.limit(RateLimits(max_concurrent_dispatches=100), google.state.clock())
        await eventually(lambda: _all_done(db, jobs), what="every job to be done", within=LONG)
    assert (await effects(db), await db.letters()) == (jobs, [])
    return made


async def _five_times(db: Tables) -> bool:
    return bool(await db.value("select clock_timestamp() > at + interval '5 seconds' from began"))


async def test_a_paused_queue_is_not_filled_again(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """A queue paused for five times STRANDED_AFTER has one task for each job; resumed, it runs each once."""
    gate.open()
    worker = start_worker()
    google.queue(QUEUE).paused = True
    await db.enqueue_many(50)
    async with running(sweeping(database, google, worker.url)):
        await eventually(lambda: created(google) == 50, what="every job to be handed over")
        await db.rows("create table began as select clock_timestamp() as at")
        await eventually(lambda: _five_times(db), what="five times STRANDED_AFTER")
        assert created(google) <= 55
        google.queue(QUEUE).paused = False
        google.state.changed.set()
        await eventually(lambda: _all_done(db, 50), what="every job to be done", within=LONG)
    assert (await effects(db), await db.letters()) == (50, [])


async def test_a_job_longer_than_any_dispatch_runs_once(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """The worker answers 202 before the dispatch deadline, the task is done with, and heartbeats keep the job."""
    worker = start_worker(wait_max=0.5, lease=1.0)
    job = await db.enqueue()
    async with running(sweeping(database, google, worker.url)):
        await eventually(lambda: google.dispatches, what="Cloud Tasks to be answered")
        assert google.dispatches[0].answer.status == 202
        assert google.tasks(QUEUE) == []
        until = "select lease_until > started_at + interval '3 seconds' from outboxkit.jobs where id = %s"
        await eventually(lambda: db.value(until, job), what="the lease to be renewed again and again")
        gate.open()
        await eventually(lambda: _all_done(db, 1), what="the job to be done")
    assert await db.value("select attempt from outboxkit.jobs where id = %s", job) == 1
    assert (created(google), await effects(db)) == (1, 1)
