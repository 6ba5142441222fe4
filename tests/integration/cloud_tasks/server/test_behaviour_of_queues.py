"""What Google's service does about queues and arguments, asked of our server and of gcloud-tasks-emulator."""

import asyncio
import sys
import time
from typing import Any, Final

import pytest
from google.api_core import exceptions

from integration.cloud_tasks.server.targets import LOCATION, Target, Worker, at
from sink import Reply, Request

# As in test_behaviour.
EMULATOR_DIFFERS: Final = {
    "test_no_such_queue": "CreateTask says FAILED_PRECONDITION, GetQueue UNKNOWN",
    "test_a_queue_has_google_s_defaults": "settings of a queue are kept as they come",
    "test_a_queue_can_be_changed": "UpdateQueue changes nothing",
    "test_a_queue_s_name_in_use_is_refused": "CreateQueue returns the queue that is there",
    "test_a_deleted_queue_s_name_is_refused": "names of queues are not remembered",
    "test_a_queue_s_settings_are_checked": "settings of a queue are not looked at",
    "test_the_rate_is_limited": "rate limits are not looked at",
    "test_what_google_refuses": "arguments are not checked",
}


def test_the_list_names_tests_of_this_module() -> None:
    """A test that was renamed or removed leaves no entry behind."""
    assert [name for name in EMULATOR_DIFFERS if not hasattr(sys.modules[__name__], name)] == []


async def test_no_such_queue(target: Target, worker: Worker) -> None:
    """NOT_FOUND, for the queue and for a task to put into it."""
    queue = f"{LOCATION}/queues/nowhere"
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        await target.client.get_queue(name=queue)
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        await target.create(queue, worker)


async def test_a_queue_has_google_s_defaults(target: Target) -> None:
    """Those that `gcloud tasks queues describe` shows of a new queue."""
    queue = await target.client.get_queue(name=await target.new_queue())
    rates, retries = queue.rate_limits, queue.retry_config
    assert (rates.max_dispatches_per_second, rates.max_burst_size, rates.max_concurrent_dispatches) == (500, 100, 1000)
    assert (retries.max_attempts, retries.max_doublings) == (100, 16)
    assert (retries.min_backoff.total_seconds(), retries.max_backoff.total_seconds()) == (0.1, 3600)
    assert queue.state.name == "RUNNING"


async def test_a_queue_can_be_changed(target: Target) -> None:
    """What the mask names is changed, and nothing else."""
    name = await target.new_queue(retry_config={"max_attempts": 7, "max_doublings": 3})
    queue = {"name": name, "retry_config": {"max_attempts": 9, "max_doublings": 5}}
    changed = await target.client.update_queue(queue=queue, update_mask={"paths": ["retry_config.max_attempts"]})
    assert (changed.retry_config.max_attempts, changed.retry_config.max_doublings) == (9, 3)
    assert await target.client.get_queue(name=name) == changed


async def test_a_queue_s_name_in_use_is_refused(target: Target) -> None:
    """ALREADY_EXISTS."""
    name = await target.new_queue()
    with pytest.raises(exceptions.AlreadyExists, match="Queue already exists"):
        await target.client.create_queue(parent=LOCATION, queue={"name": name})


async def test_a_deleted_queue_s_name_is_refused(target: Target) -> None:
    """FAILED_PRECONDITION for days after."""
    name = await target.new_queue()
    await target.client.delete_queue(name=name)
    with pytest.raises(exceptions.FailedPrecondition, match="existed too recently"):
        await target.client.create_queue(parent=LOCATION, queue={"name": name})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate_limits": {"max_dispatches_per_second": 501}}, "must be less than or equal to 500"),
        ({"rate_limits": {"max_concurrent_dispatches": -1}}, "maxConcurrentDispatches cannot be negative"),
        ({"retry_config": {"max_attempts": -2}}, "maxAttempts must be greater or equal to -1"),
        ({"retry_config": {"max_doublings": -1}}, "maxDoublings cannot be negative"),
        ({"retry_config": {"min_backoff": {"seconds": 9}, "max_backoff": {"seconds": 8}}}, "minBackoff must be less"),
    ],
)
async def test_a_queue_s_settings_are_checked(target: Target, settings: dict[str, Any], message: str) -> None:
    """INVALID_ARGUMENT."""
    with pytest.raises(exceptions.InvalidArgument, match=message):
        await target.new_queue(**settings)


async def test_a_paused_queue_sends_nothing(target: Target, worker: Worker) -> None:
    """It takes tasks in, and sends them once it is resumed."""
    queue, other = await target.new_queue(), await target.new_queue()
    await target.client.pause_queue(name=queue)
    await target.create(queue, worker, http={"body": b"paused"})
    await target.create(other, worker, http={"body": b"running"})
    assert (await worker.asked(within=target.patience)).body == b"running"
    assert len(await target.names(queue)) == 1
    await target.client.resume_queue(name=queue)
    assert (await worker.asked(2, within=target.patience)).body == b"paused"


async def test_a_purge_deletes_the_tasks(target: Target, worker: Worker) -> None:
    """All that stand in the queue."""
    queue = await target.new_queue()
    for name in "ab":
        await target.create(queue, worker, name=name, schedule_time=at(time.time() + 3600))
    assert len(await target.names(queue)) == 2
    await target.client.purge_queue(name=queue)
    assert await target.names(queue) == []


async def test_the_rate_is_limited(target: Target, worker: Worker) -> None:
    """A burst, and then as many a second as were asked for."""
    queue = await target.new_queue(rate_limits={"max_dispatches_per_second": 1})
    for _ in range(12):
        await target.create(queue, worker)
    await worker.asked(12, within=target.patience)
    assert max(worker.arrivals) - min(worker.arrivals) >= 1.5


async def test_no_more_run_at_once_than_are_allowed(target: Target, worker: Worker) -> None:
    """max_concurrent_dispatches."""
    running: list[int] = []
    most = 0

    async def slowly(_: Request) -> Reply:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        await asyncio.sleep(0.05)  # the worker's work, in which others would arrive
        running.pop()
        return Reply(200)

    worker.answering = slowly
    queue = await target.new_queue(rate_limits={"max_concurrent_dispatches": 1})
    for _ in range(4):
        await target.create(queue, worker)
    await worker.asked(4, within=target.patience)
    await target.emptied(queue)
    assert most == 1


LONG = "a" * 501


REFUSED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no url": ({"http_request": {"url": ""}}, "HttpRequest.url is required"),
    "no scheme": ({"http_request": {"url": "worker/process-job"}}, "must start with 'http://' or 'https://'"),
    "other scheme": ({"http_request": {"url": "ftp://worker"}}, "must start with 'http://' or 'https://'"),
    "body of a GET": ({"http_request": {"url": "http://w", "http_method": "GET", "body": b"x"}}, "body cannot be set"),
    "spaces in a name": ({"name": "{queue}/tasks/a b"}, "Task ID .* can contain only letters"),
    "long name": ({"name": f"{{queue}}/tasks/{LONG}"}, "Task ID must between 1 and 500 characters"),
    "malformed name": ({"name": "tasks/a"}, "Task name must be formatted"),
    "other queue's name": ({"name": "{queue}-other/tasks/a"}, "must be the same as the queue name in the named task"),
    "far ahead": ({"schedule_time": at(time.time() + 30 * 86400 + 600)}, "no more than 720h in the future"),
    "short deadline": ({"dispatch_deadline": {"seconds": 14}}, r"must be between \[15s, 30m\]"),
    "long deadline": ({"dispatch_deadline": {"seconds": 1801}}, r"must be between \[15s, 30m\]"),
    "large body": ({"http_request": {"url": "http://w", "body": b"x" * 2**20}}, "Task size too large"),
}


@pytest.mark.parametrize("flaw", REFUSED)
async def test_what_google_refuses(target: Target, flaw: str) -> None:
    """INVALID_ARGUMENT, in Google's words where they are known."""
    queue = await target.new_queue()
    await target.client.pause_queue(name=queue)
    fields, message = REFUSED[flaw]
    task = {"http_request": {"url": "http://127.0.0.1:1"}, **fields}
    if "name" in task:
        task["name"] = task["name"].format(queue=queue)
    with pytest.raises(exceptions.InvalidArgument, match=message):
        await target.client.create_task(parent=queue, task=task)


async def test_the_largest_body_that_is_taken(target: Target, worker: Worker) -> None:
    """Close to a megabyte."""
    queue = await target.new_queue()
    await target.create(queue, worker, http={"body": b"x" * (2**20 - 1024)})
    assert len((await worker.asked(within=target.patience)).body) == 2**20 - 1024
