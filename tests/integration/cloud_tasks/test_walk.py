"""The way of a migration, db → http → cloud-tasks and back, walked under load."""

import asyncio
from collections import Counter
from contextlib import suppress

from cloud_tasks import task_settings
from databases import Database
from integration.cloud_tasks.conftest import StartWorker
from outboxkit.settings import Secret
from outboxkit_cli.cloud_tasks.server import CloudTasksServer
from relaying import Tables, eventually, running, tables
from workers import Gate

STEPS = ("db", "http", "cloud-tasks", "http", "cloud-tasks", "db", "cloud-tasks")
LONG = 60.0

SOME = """
select outboxkit.enqueue_jobs(jsonb_agg(jsonb_build_object(
    'kind', 'K',
    'payload', case when n % 5 = 0 then '{"retry": 0.2}'::jsonb else '{}' end,
    'run_at', case when n % 7 = 0 then clock_timestamp() + interval '0.4 seconds' else clock_timestamp() end)))
from generate_series(1, 20) as n
"""


async def test_the_mode_is_switched_under_load(
    database: Database, db: Tables, google: CloudTasksServer, start_worker: StartWorker, gate: Gate
) -> None:
    """Jobs due now and later, jobs that are retried, and at each step a switch: nothing is lost, nothing is done twice.

    Every third task is dispatched twice, and every task half a second late: by then the mode is another, and the job done.
    """
    google.faults.twice, google.faults.delay = 0.34, 0.5
    gate.open()
    worker = start_worker(mode="db", poll_interval=0.05, backoff=0.05, secret=Secret("test-secret"))
    relay = task_settings(database, google, worker.url, JOB_TRIGGER_MODE="db", WORKER_TASK_SERVICE_ACCOUNT="")
    async with running(relay, relay):
        made = asyncio.create_task(_produce(database))
        try:
            for step in STEPS:
                await db.rows("update outboxkit.trigger_settings set mode_override = %s", step)
                await db.wake()
                await eventually(lambda step=step: _in_force(db, step), what=f"the mode {step} to be in force")
                before = await _done(db)
                await eventually(
                    lambda before=before: _done_since(db, before, 60), what=f"60 jobs done in {step}", within=LONG
                )
        finally:
            made.cancel()
            with suppress(asyncio.CancelledError):
                await made
        await eventually(lambda: _settled(db), what="every job to be settled", within=LONG)
        await eventually(lambda: not google.tasks("jobs"), what="every late task to be called", within=LONG)
    states = Counter(row[0] for row in await db.rows("select state from outboxkit.jobs"))
    assert set(states) == {"succeeded"}
    assert await db.value("select count(*) from effects") == states["succeeded"]
    assert await db.value("select count(distinct job) from effects") == states["succeeded"]
    assert await db.letters() == []
    # Early ones (409) and ones that met a full house (429) are tried again; nobody is ever told anything worse.
    answers = Counter(dispatch.answer.status for dispatch in google.dispatches)
    assert set(answers) <= {200, 202, 409, 429}
    assert answers[200] > 0, "duplicates that came late"
    outcomes = Counter(
        dict(await db.rows("select mode, sum(triggers)::int from outboxkit.trigger_stats group by mode"))
    )
    assert outcomes["http"] > 0
    assert outcomes["cloud-tasks"] > 0


async def _produce(database: Database) -> None:
    async with tables(database) as producer:
        while True:
            await producer.rows(SOME)
            await producer.wake()
            await asyncio.sleep(0.1)


async def _in_force(db: Tables, mode: str) -> bool:
    return bool(await db.value("select effective_mode = %s from outboxkit.trigger_settings", mode))


async def _done(db: Tables) -> int:
    return int(await db.value("select count(*) from outboxkit.jobs where state = 'succeeded'"))


async def _done_since(db: Tables, before: int, jobs: int) -> bool:
    return await _done(db) >= before + jobs


async def _settled(db: Tables) -> bool:
    return bool(await db.value("select not exists (select from outboxkit.jobs where state in ('queued', 'running'))"))
