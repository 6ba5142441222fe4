"""In cloud-tasks mode a trigger becomes a task, and Cloud Tasks calls the worker."""

from datetime import timedelta
from uuid import uuid4

import jwt
import pytest

from cloud_tasks import ACCOUNT, QUEUE, task_settings
from databases import Database
from outboxkit_cli.cloud_tasks.faults import CallFault
from outboxkit_cli.cloud_tasks.server import CloudTasksServer
from outboxkit_relay.relay import Relay
from outboxkit_relay.task_names import QueueName
from relaying import Tables, eventually, running
from sink import Sink

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_due_job_becomes_a_task_that_calls_the_worker(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """The worker gets the job's id and kind, the trace, how long it may wait, an identity, and not the secret."""
    job = await db.enqueue("SEND", trace=TRACE)
    async with running(task_settings(database, google, sink.url)):
        await eventually(lambda: sink.requests, what="Cloud Tasks to call")
        await eventually(db.empty, what="the trigger to be settled")
    [request] = sink.requests
    assert (request.method, request.path, request.job_id, request.kind) == ("POST", "/process-job", job, "SEND")
    assert request.headers["traceparent"] == TRACE
    assert request.headers["content-type"] == "application/json"
    assert request.headers["prefer"] == "wait=585"
    assert request.headers["x-cloudtasks-queuename"] == QUEUE
    assert "x-worker-trigger" not in request.headers
    claims = jwt.decode(request.headers["authorization"].removeprefix("Bearer "), options={"verify_signature": False})
    assert (claims["email"], claims["aud"]) == (ACCOUNT, sink.url.removesuffix("/process-job"))


async def test_without_an_identity_the_secret_goes_along(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """A worker that knows only the shared secret is called with it."""
    await db.enqueue()
    async with running(task_settings(database, google, sink.url, WORKER_TASK_SERVICE_ACCOUNT="")):
        await eventually(lambda: sink.requests, what="Cloud Tasks to call")
    [request] = sink.requests
    assert request.headers["x-worker-trigger"] == "test-secret"
    assert "authorization" not in request.headers


async def test_the_audience_can_be_set(database: Database, db: Tables, google: CloudTasksServer, sink: Sink) -> None:
    """WORKER_OIDC_AUDIENCE stands in the token."""
    await db.enqueue()
    async with running(task_settings(database, google, sink.url, WORKER_OIDC_AUDIENCE="https://custom")):
        await eventually(lambda: sink.requests, what="Cloud Tasks to call")
    token = sink.requests[0].headers["authorization"].removeprefix("Bearer ")
    assert jwt.decode(token, options={"verify_signature": False})["aud"] == "https://custom"


async def test_a_job_handed_over_is_looked_after(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """The trigger goes, and the job has the time at which the sweep asks for it."""
    google.faults.lost = 1.0
    job = await db.enqueue()
    async with running(task_settings(database, google, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
    assert await db.state(job) == "queued"
    assert await db.value(
        "select rescue_at between clock_timestamp() + interval '4 minutes' and clock_timestamp() + interval '5 minutes'"
        " from outboxkit.jobs where id = %s",
        job,
    )


async def test_the_name_is_a_hash_of_job_and_row(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """64 hexadecimal digits: the same for the same row, others for the job's next row, and for another job's.

    The last matters after a restore from a backup: row ids are used again then, and Cloud Tasks still knows its names.
    """
    google.faults.lost = 1.0
    job = await db.enqueue()
    row = await db.value("select id from outboxkit.outbox")
    async with running(task_settings(database, google, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
    [task] = google.tasks(QUEUE)
    queue = QueueName("test-project", "europe-west1", QUEUE)
    assert task.name == queue.task(job, row)
    assert task.name != queue.task(job, row + 1)
    assert task.name != queue.task(uuid4(), row)
    assert len(task.name.rpartition("/")[2]) == 64


async def test_a_row_sent_twice_is_one_task(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """A relay that never heard that its task was made makes it again: ALREADY_EXISTS is as good as made."""
    google.faults.calls["CreateTask"] = CallFault(code="UNAVAILABLE", after=True, times=1)
    await db.enqueue()
    async with running(task_settings(database, google, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
    assert await db.letters() == []
    assert len(sink.requests) + len(google.tasks(QUEUE)) == 1


async def test_cloud_tasks_keeps_the_schedule(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """A job due tomorrow is handed over today with its time; one due in 40 days stays until it is within range."""
    job = await db.enqueue(run_in=86_400)
    far = await db.enqueue(run_in=40 * 86_400)
    run_at = await db.value("select run_at from outboxkit.jobs where id = %s", job)
    async with running(task_settings(database, google, sink.url, CLOUD_TASKS_DISPATCH_DEADLINE="90")):
        await eventually(lambda: google.tasks(QUEUE), what="the task to be made")
        await eventually(lambda: one_row(db), what="the trigger to be settled")
        [task] = google.tasks(QUEUE)
        assert task.dispatch_deadline == timedelta(seconds=90)
        assert abs(task.schedule_time - run_at) < timedelta(milliseconds=1)
        assert [row[0] for row in await db.rows("select job_id from outboxkit.outbox")] == [far]
        assert sink.requests == []
        await db.rows("update outboxkit.outbox set due_at = due_at - interval '11 days'")
        await db.rows("update outboxkit.jobs set run_at = run_at - interval '11 days' where id = %s", far)
        await eventually(db.empty, what="the other trigger to be handed over, now that it is within range")
        google.advance(86_400)
        await eventually(lambda: sink.requests, what="Cloud Tasks to call when the job is due")
    assert sink.job_ids == [job]


async def one_row(db: Tables) -> bool:
    """Whether one trigger is left."""
    return bool(await db.value("select count(*) = 1 from outboxkit.outbox"))


async def test_queues_have_cloud_tasks_queues(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """TRIGGER_ROUTES names a Cloud Tasks queue, a worker, or both."""
    google.state.create(google.queue_path("slow"), retries=google.options.retries, limits=google.options.limits)
    async with Sink() as other:
        routes = f'{{"reports": {{"url": "{other.url}", "cloudTasksQueue": "slow"}}}}'
        plain = await db.enqueue()
        routed = await db.enqueue(queue="reports")
        async with running(task_settings(database, google, sink.url, TRIGGER_ROUTES=routes)):
            await eventually(lambda: sink.requests and other.requests, what="both workers to be called")
        assert (sink.job_ids, other.job_ids) == ([plain], [routed])
        assert other.requests[0].headers["x-cloudtasks-queuename"] == "slow"


@pytest.mark.parametrize("batch", ["1", "100"])
async def test_many_jobs_each_become_one_task(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink, batch: str
) -> None:
    """Two relays share a backlog, and no job gets two tasks, one by one or a hundred together."""
    count = 500
    jobs = await db.enqueue_many(count)
    relay = task_settings(database, google, sink.url, CLOUD_TASKS_BATCH_SIZE=batch)
    async with running(relay, relay):
        await eventually(lambda: len(sink.requests) == count, what="every job to be called for")
        await eventually(db.empty, what="the triggers to be settled")
    assert sorted(sink.job_ids) == sorted(jobs)


async def test_of_tasks_made_together_each_has_its_own_answer(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """One that exists already is delivered, one that is refused dies alone, and the others are made."""
    google.queue(QUEUE).paused = True
    jobs = await db.enqueue_many(20)
    too_long = "x" * (2 * 1024 * 1024)
    await db.rows("update outboxkit.outbox set kind = %s where job_id = %s", too_long, jobs[7])
    relay = task_settings(database, google, sink.url, CLOUD_TASKS_BATCH_SIZE="100")
    async with running(relay):
        await eventually(db.empty, what="the triggers to be settled")
        assert [job for job, _ in await db.letters()] == [jobs[7]]
        assert len(google.tasks(QUEUE)) == 19
        # As after a crash between the call and its settlement: the same rows are there once more.
        await db.rows(
            "insert into outboxkit.outbox (id, job_id, queue, kind, due_at, created_at) overriding system value"
            " select handed_over, id, queue, kind, now(), now() from outboxkit.jobs where handed_over is not null"
        )
        await db.enqueue()
        await db.wake()
        await eventually(db.empty, what="the triggers to be settled again")
    assert len(google.tasks(QUEUE)) == 20
    assert len(await db.letters()) == 1


async def test_a_run_of_once_hands_over_what_is_due_and_what_is_scheduled(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """As a Cloud Run job: everything within range is handed over, and a queue that is missing is a failure."""
    await db.enqueue_many(30)
    await db.enqueue(run_in=3600)
    drained = await Relay(settings=task_settings(database, google, sink.url)).once()
    assert (drained.delivered, drained.failed_due, drained.complete) == (31, 0, True)
    assert await db.empty()
    await db.enqueue()
    failed = await Relay(settings=task_settings(database, google, sink.url, CLOUD_TASKS_QUEUE="other")).once()
    assert (failed.delivered, failed.complete) == (0, False)
    assert failed.failed_due == 1
