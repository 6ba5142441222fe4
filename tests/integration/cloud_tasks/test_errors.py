"""What Cloud Tasks refuses: a fault of the endpoint costs no job, and the message says what to mend (G6)."""

import asyncio
import socket
from typing import Any
from uuid import uuid4

import pytest

from cloud_tasks import ACCOUNT, LOCATION, PROJECT, QUEUE, google_options, task_settings
from databases import Database
from outboxkit_cli.cloud_tasks.faults import CallFault
from outboxkit_cli.cloud_tasks.server import CloudTasksServer
from outboxkit_cli.cloud_tasks.validation import Strictness
from outboxkit_contracts.actions import Action
from outboxkit_relay.task_names import QueueName
from outboxkit_relay.transports.cloud_tasks import CloudTasksTransport, TaskPattern
from outboxkit_relay.transports.task_creation import OneByOne
from outboxkit_relay.triggers import Trigger
from relaying import Tables, eventually, running
from sink import Sink, free_port


async def last_error(db: Tables) -> str:
    """What the outbox says about its only row."""
    return str(await db.value("select coalesce(max(last_error), '') from outboxkit.outbox"))


async def test_a_queue_that_is_missing(database: Database, db: Tables, google: CloudTasksServer, sink: Sink) -> None:
    """The message has the command that makes the queue; once it is there, everything goes out, and nothing is dead."""
    jobs = await db.enqueue_many(20)
    async with running(task_settings(database, google, sink.url, CLOUD_TASKS_QUEUE="other", RELAY_MAX_ATTEMPTS="3")):
        await eventually(
            lambda: _says(db, "gcloud tasks queues create other --location=europe-west1"), what="the reason"
        )
        assert await db.letters() == []
        google.state.create(google.queue_path("other"), retries=google.options.retries, limits=google.options.limits)
        await eventually(lambda: len(sink.requests) == len(jobs), what="every job to be called for")
    assert await db.letters() == []


async def _says(db: Tables, text: str) -> bool:
    return text in await last_error(db)


@pytest.mark.parametrize(
    ("denied", "says"),
    [
        ({"denied": {"cloudtasks.tasks.create"}}, "roles/cloudtasks.enqueuer on projects/test-project/locations"),
        ({"usable_accounts": set()}, f"roles/iam.serviceAccountUser on {ACCOUNT}"),
    ],
    ids=["may not create", "may not act as"],
)
async def test_a_role_that_is_missing(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink, denied: dict[str, Any], says: str
) -> None:
    """The message names both roles, and on what; a role that is granted while the relay runs is enough."""
    for name, value in denied.items():
        setattr(google.faults, name, value)
    await db.enqueue_many(20)
    async with running(task_settings(database, google, sink.url, RELAY_MAX_ATTEMPTS="3")):
        await eventually(lambda: _says(db, says), what="the reason")
        google.faults.denied, google.faults.usable_accounts = set(), None
        await eventually(lambda: len(sink.requests) == 20, what="every job to be called for")
    assert await db.letters() == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("FAILED_PRECONDITION", "enable the API cloudtasks.googleapis.com"),
        ("UNAUTHENTICATED", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("UNAVAILABLE", "cannot be reached"),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        ("INTERNAL", "INTERNAL"),
        ("ABORTED", "ABORTED"),
        ("UNKNOWN", "UNKNOWN"),
        ("DATA_LOSS", "DATA_LOSS"),
        ("UNIMPLEMENTED", "UNIMPLEMENTED"),
        ("OUT_OF_RANGE", "OUT_OF_RANGE"),
        ("CANCELLED", "CANCELLED"),
    ],
)
async def test_every_other_code_is_a_fault_of_the_endpoint(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink, code: str, says: str
) -> None:
    """Far more failures than a row may have, and no dead letter; when it passes, everything goes out."""
    google.faults.calls["CreateTask"] = CallFault(code=code, times=40)
    await db.enqueue_many(10)
    seen = False
    async with running(task_settings(database, google, sink.url, RELAY_MAX_ATTEMPTS="3")):
        await eventually(lambda: _says(db, says), what="the reason")
        seen = True
        await eventually(lambda: len(sink.requests) == 10, what="every job to be called for")
    assert seen
    assert await db.letters() == []


async def test_a_quota_that_is_used_up_slows_down(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """RESOURCE_EXHAUSTED counts against no row and opens no breaker; fewer calls are made at once."""
    google.faults.calls["CreateTask"] = CallFault(code="RESOURCE_EXHAUSTED", times=30)
    await db.enqueue_many(10)
    async with running(task_settings(database, google, sink.url, RELAY_MAX_ATTEMPTS="2")) as [relay]:
        await eventually(lambda: _says(db, "quota"), what="the reason")
        await eventually(lambda: len(sink.requests) == 10, what="every job to be called for")
    assert relay is not None
    assert await db.letters() == []
    assert await db.value("select coalesce(max(attempts), 0) from outboxkit.outbox") == 0


async def test_a_task_that_is_refused_as_it_is_dies(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """INVALID_ARGUMENT is about this one task: its dead letter says what Google said, and the others go on."""
    google.faults.calls["CreateTask"] = CallFault(code="INVALID_ARGUMENT", times=1)
    await db.enqueue_many(5)
    async with running(task_settings(database, google, sink.url)):
        await eventually(lambda: len(sink.requests) == 4, what="the other jobs to be called for")
        [(_, reason)] = await eventually(db.letters, what="the dead letter")
    assert reason == "refused"
    assert "INVALID_ARGUMENT" in await db.value("select last_error from outboxkit.dead_letters")


async def test_a_queue_that_refuses_everything_costs_four(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """A setting that Google does not like is no five bad messages in a row: the breaker opens (†)."""
    google.faults.calls["CreateTask"] = CallFault(code="INVALID_ARGUMENT")
    jobs = await db.enqueue_many(50)
    async with running(task_settings(database, google, sink.url)):
        await eventually(lambda: _says(db, "INVALID_ARGUMENT"), what="a row that was kept")
        del google.faults.calls["CreateTask"]
        await eventually(db.empty, what="the rest to be handed over")
    assert 1 <= len(await db.letters()) <= 4
    assert len(jobs) - 4 <= len(sink.requests) + len(google.tasks(QUEUE))


async def test_a_server_that_is_away(database: Database, db: Tables, sink: Sink) -> None:
    """Nobody listens: the breaker waits; then somebody does, and everything goes out."""
    port = free_port()
    await db.enqueue_many(10)
    async with running(task_settings(database, f"127.0.0.1:{port}", sink.url, RELAY_MAX_ATTEMPTS="3")):
        await eventually(lambda: _says(db, "cannot be reached"), what="the reason")
        async with CloudTasksServer(google_options(port=port)):
            await eventually(lambda: len(sink.requests) == 10, what="every job to be called for", within=60)
    assert await db.letters() == []


async def test_a_server_that_never_answers(database: Database, db: Tables, sink: Sink) -> None:
    """Something listens and says nothing: the delivery ends with its deadline, not with the test's patience."""
    await db.enqueue()
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    async with running(task_settings(database, f"127.0.0.1:{port}", sink.url, RELAY_DELIVERY_TIMEOUT_SECONDS="0.3")):
        await eventually(lambda: _says(db, "Cloud Tasks"), what="the reason")
    silent.close()


async def test_what_google_says_never_shows_the_secret(
    database: Database, db: Tables, google: CloudTasksServer, sink: Sink
) -> None:
    """An error that quotes the request's headers is kept without the secret."""
    google.faults.calls["CreateTask"] = CallFault(code="FAILED_PRECONDITION", message="bad header test-secret here")
    await db.enqueue()
    async with running(task_settings(database, google, sink.url, WORKER_TASK_SERVICE_ACCOUNT="")):
        await eventually(lambda: _says(db, "bad header"), what="the reason")
        assert "test-secret" not in await last_error(db)


async def test_an_http_url_is_refused_by_a_strict_google(database: Database, db: Tables, sink: Sink) -> None:
    """Google takes no identity for plain http: what it says is kept, in a dead letter or on the row."""
    async with CloudTasksServer(google_options(strictness=Strictness(https_required=True))) as strict:
        await db.enqueue()
        async with running(task_settings(database, strict, sink.url)):
            await eventually(db.letters, what="the refusal")
    assert "https" in await db.value("select last_error from outboxkit.dead_letters")


async def test_credentials_that_never_come() -> None:
    """Whatever is waited for before the first call, a delivery ends with its deadline, as a fault of the endpoint."""

    async def never() -> Any:
        await asyncio.Event().wait()

    pattern = TaskPattern(
        queue=QueueName(PROJECT, LOCATION, QUEUE),
        url="https://worker.example/process-job",
        wait=585,
        dispatch_deadline=600,
    )
    creation = OneByOne(parent=pattern.queue.path, deadline=30)
    transport = CloudTasksTransport(pattern, connect=never, creation=creation, deadline=0.05, patience=5)
    async with asyncio.timeout(10):
        outcome = await transport.deliver(Trigger(0.0, 1, uuid4(), "default", "K", None, 1, 0, 0.0))
    assert outcome.verdict.action is Action.ENDPOINT_FAULT
    assert "within 0.05 s" in outcome.verdict.reason
