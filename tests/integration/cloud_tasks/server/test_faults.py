"""Everything that can be made to go wrong, in the process and over HTTP."""

import asyncio
import contextlib
import time

import httpx
import pytest
from google.api_core import exceptions

from integration.cloud_tasks.server.targets import Target, Worker, at
from outboxkit_cli.cloud_tasks.faults import CallFault, Dice
from outboxkit_cli.cloud_tasks.server import CloudTasksServer
from sink import Reply

HOUR = 3600.0


async def test_a_lost_task_stands_there_for_ever(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """It can be seen, and is never sent; one that is made after the fault is."""
    server.faults.lost = 1
    created = await tasks.create(server.queue_path(), worker, name="lost")
    server.faults.lost = 0
    await tasks.create(server.queue_path(), worker, name="found")
    assert (await worker.asked()).headers["x-cloudtasks-taskname"] == "found"
    server.advance(HOUR)
    await tasks.create(server.queue_path(), worker, name="later")
    assert (await worker.asked(2)).headers["x-cloudtasks-taskname"] == "later"
    assert (await tasks.client.get_task(name=created.name)).dispatch_count == 0


async def test_a_task_that_vanishes_was_made_and_is_gone(
    server: CloudTasksServer, tasks: Target, worker: Worker
) -> None:
    """Nobody finds it, its name is used up, and the worker hears nothing of it."""
    server.faults.vanished = 1
    created = await tasks.create(server.queue_path(), worker, name="a")
    server.faults.vanished = 0
    with pytest.raises(exceptions.NotFound, match="existed recently"):
        await tasks.client.get_task(name=created.name)
    with pytest.raises(exceptions.AlreadyExists):
        await tasks.create(server.queue_path(), worker, name="a")
    await tasks.create(server.queue_path(), worker, name="b")
    assert (await worker.asked()).headers["x-cloudtasks-taskname"] == "b"


async def test_a_task_is_sent_twice_at_once(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """Both requests are the same attempt, and both are under way together."""
    both = asyncio.Barrier(2)

    async def together(_: object) -> Reply:
        await both.wait()
        return Reply(200)

    worker.answering = together
    server.faults.twice = 1
    await tasks.create(server.queue_path(), worker)
    await worker.asked(2)
    await tasks.emptied(server.queue_path())
    assert [request.headers["x-cloudtasks-taskretrycount"] for request in worker.requests] == ["0", "0"]
    assert worker.requests[0].connection != worker.requests[1].connection


async def test_a_dispatch_is_late(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """By the delay, without the schedule saying so."""
    server.faults.delay = HOUR
    created = await tasks.create(server.queue_path(), worker, name="late")
    assert created.schedule_time.timestamp() <= time.time()
    server.faults.delay = 0
    await tasks.create(server.queue_path(), worker, name="in-time")
    assert (await worker.asked()).headers["x-cloudtasks-taskname"] == "in-time"
    server.advance(HOUR)
    assert (await worker.asked(2)).headers["x-cloudtasks-taskname"] == "late"


async def test_calls_fail_as_often_as_they_are_told(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """With the code that was asked for; nothing is done then, and other methods are well."""
    server.faults.calls["CreateTask"] = CallFault(code="RESOURCE_EXHAUSTED", message="too many", times=2)
    for _ in range(2):
        with pytest.raises(exceptions.ResourceExhausted, match="too many"):
            await tasks.create(server.queue_path(), worker)
    await tasks.client.get_queue(name=server.queue_path())
    assert server.tasks() == []
    await tasks.create(server.queue_path(), worker)
    await worker.asked()


async def test_an_answer_is_lost(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """The task is made although the call fails, so that the next call finds its name taken."""
    server.queue().paused = True
    server.faults.calls["CreateTask"] = CallFault(after=True, times=1)
    with pytest.raises(exceptions.ServiceUnavailable):
        await tasks.create(server.queue_path(), worker, name="a")
    with pytest.raises(exceptions.AlreadyExists):
        await tasks.create(server.queue_path(), worker, name="a")


async def test_every_method_can_fail(server: CloudTasksServer, tasks: Target) -> None:
    """The name `*` is any."""
    server.faults.calls["*"] = CallFault(code="UNAUTHENTICATED")
    for _ in range(3):
        with pytest.raises(exceptions.Unauthenticated):
            await tasks.client.get_queue(name=server.queue_path())


LISTING, FULL_VIEW = {"cloudtasks.tasks.list"}, {"cloudtasks.tasks.fullView"}
PERMISSIONS = {
    "cloudtasks.tasks.create": lambda tasks, queue, worker: tasks.create(queue, worker),
    "cloudtasks.tasks.get": lambda tasks, queue, _: tasks.client.get_task(name=f"{queue}/tasks/a"),
    "cloudtasks.tasks.list": lambda tasks, queue, _: tasks.client.list_tasks(parent=queue),
    "cloudtasks.tasks.delete": lambda tasks, queue, _: tasks.client.delete_task(name=f"{queue}/tasks/a"),
    "cloudtasks.tasks.run": lambda tasks, queue, _: tasks.client.run_task(name=f"{queue}/tasks/a"),
    "cloudtasks.tasks.fullView": lambda tasks, queue, _: tasks.client.list_tasks(
        request={"parent": queue, "response_view": "FULL"}
    ),
    "cloudtasks.queues.get": lambda tasks, queue, _: tasks.client.get_queue(name=queue),
    "cloudtasks.queues.pause": lambda tasks, queue, _: tasks.client.pause_queue(name=queue),
    "cloudtasks.queues.resume": lambda tasks, queue, _: tasks.client.resume_queue(name=queue),
    "cloudtasks.queues.purge": lambda tasks, queue, _: tasks.client.purge_queue(name=queue),
    "cloudtasks.queues.delete": lambda tasks, queue, _: tasks.client.delete_queue(name=queue),
    "cloudtasks.queues.update": lambda tasks, queue, _: tasks.client.update_queue(queue={"name": queue}),
    "cloudtasks.queues.create": lambda tasks, queue, _: tasks.client.create_queue(
        parent=queue.rpartition("/queues/")[0], queue={"name": f"{queue}-other"}
    ),
    "cloudtasks.queues.list": lambda tasks, queue, _: tasks.client.list_queues(parent=queue.rpartition("/queues/")[0]),
}


@pytest.mark.parametrize("permission", PERMISSIONS)
async def test_a_missing_permission(server: CloudTasksServer, tasks: Target, worker: Worker, permission: str) -> None:
    """The call that needs it is denied, with Google's words, and every other is not."""
    call = PERMISSIONS[permission]
    server.faults.denied = {permission}
    with pytest.raises(exceptions.PermissionDenied, match=f'lacks IAM permission "{permission}" for the resource'):
        await call(tasks, server.queue_path(), worker)
    server.faults.denied = PERMISSIONS.keys() - {permission, *(LISTING if permission in FULL_VIEW else ())}
    with contextlib.suppress(exceptions.NotFound):  # there is no task `a`, as whoever has the permission learns
        await call(tasks, server.queue_path(), worker)


async def test_an_account_that_the_caller_may_not_use(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """Naming it is denied; another account, or none, is not. In a batch each task is looked at by itself."""
    server.faults.usable_accounts = {"mine@x"}
    tokens = {"oidc_token": {"service_account_email": "other@x"}}
    with pytest.raises(exceptions.PermissionDenied, match=r'"iam.serviceAccounts.actAs" for the resource "other@x"'):
        await tasks.create(server.queue_path(), worker, http=tokens)
    await tasks.create(server.queue_path(), worker, http={"oidc_token": {"service_account_email": "mine@x"}})
    await tasks.create(server.queue_path(), worker)
    requests = [
        {"parent": server.queue_path(), "task": {"http_request": {"url": worker.url, **token}}}
        for token in (tokens, {})
    ]
    operation = await tasks.client.batch_create_tasks(request={"parent": server.queue_path(), "requests": requests})
    assert {place: status.code for place, status in operation.metadata.failed_requests.items()} == {0: 7}


async def test_faults_are_set_over_http(server: CloudTasksServer) -> None:
    """Those that are named; the others stay, and so does what somebody holds in the process."""
    held = server.faults
    held.denied = {"cloudtasks.tasks.get"}
    async with httpx.AsyncClient(base_url=server.issuer) as http:
        body = {"lost": 0.5, "calls": {"CreateTask": {"code": "INTERNAL", "times": 3}}}
        answer = await http.post("/faults", json=body)
        assert answer.status_code == 200
        assert (await http.get("/faults")).json() == answer.json()
        key = (await http.get("/oauth2/v3/certs")).json()["keys"][0]["kid"]
        assert key not in [each["kid"] for each in (await http.post("/keys/rotate?retire=true")).json()["keys"]]
        assert (await http.post("/clock/advance?seconds=60")).json() == {"ahead": 60}
    assert (held.lost, held.denied) == (0.5, {"cloudtasks.tasks.get"})
    assert held.calls["CreateTask"] == CallFault(code="INTERNAL", times=3)


@pytest.mark.parametrize("body", ['{"lost": 2}', '{"lots": 1}', '{"calls": {"X": {"code": "BAD"}}}', "no", "[]"])
async def test_faults_that_do_not_exist_are_refused(server: CloudTasksServer, body: str) -> None:
    """400 says what is wrong, and nothing is changed."""
    async with httpx.AsyncClient(base_url=server.issuer) as http:
        before = (await http.get("/faults")).json()
        answer = await http.post("/faults", content=body)
        assert (answer.status_code, bool(answer.text)) == (400, True)
        assert (await http.post("/clock/advance?seconds=soon")).status_code == 400
        assert (await http.get("/faults")).json() == before


def test_the_same_seed_meets_the_same_tasks() -> None:
    """And a share is about that share."""
    first, second, other = ([dice.meets(0.3) for _ in range(1000)] for dice in (Dice(1), Dice(1), Dice(2)))
    assert first == second != other
    assert 200 < sum(first) < 400


async def test_a_share_of_the_tasks(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """The others are sent."""
    server.faults.vanished = 0.5
    for _ in range(20):
        await tasks.create(server.queue_path(), worker, schedule_time=at(time.time() + HOUR))
    assert 0 < len(server.tasks()) < 20
