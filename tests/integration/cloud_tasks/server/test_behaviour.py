"""What Google's service does, asked of our server and of gcloud-tasks-emulator through Google's own client."""

import sys
import time
from typing import Final

import jwt
import pytest
from google.api_core import exceptions

from integration.cloud_tasks.server.targets import Target, Worker, at
from sink import Reply

# Where gcloud-tasks-emulator 0.6.2 differs from Google's service, by the test that shows it. Each of these tests has to fail
# on it: one that passes is reported, so that this list stays true. docs/local-cloud-tasks.md tells the same in prose.
EMULATOR_DIFFERS: Final = {
    "test_the_headers_tell_which_dispatch_it_is": "QueueName is the whole path",
    "test_executions_leave_out_5xx": "ExecutionCount counts every dispatch",
    "test_a_retry_names_the_answer_before_it": "TaskPreviousResponse and TaskRetryReason are not sent",
    "test_the_user_agent_is_google_s": "User-Agent is urllib's",
    "test_headers_that_are_google_s_own_are_dropped": "every header of a task is sent",
    "test_a_name_in_use_is_refused": "names are not compared",
    "test_a_name_used_recently_is_refused": "names are not remembered",
    "test_a_task_can_be_looked_at": "GetTask is not there",
    "test_no_such_task": "GetTask is not there",
    "test_a_task_that_is_gone_is_told_from_one_that_never_was": "GetTask is not there",
    "test_a_task_can_be_deleted": "DeleteTask is not there",
    "test_a_batch": "BatchCreateTasks is not there",
    "test_the_basic_view_leaves_the_body_out": "there is one view, with everything",
    "test_a_token_is_sent": "no tokens are made",
    "test_a_retry_waits_for_the_backoff": "every failure is tried again within 0.1 s",
    "test_a_task_is_given_up_after_its_attempts": "retries are limited for the whole emulator, not by the queue",
    "test_the_worker_can_ask_for_a_later_retry": "Retry-After is not looked at",
    "test_a_redirect_is_followed_with_the_same_request": "urllib does not repeat a POST, and the 3xx counts as done",
    "test_lists_come_in_pages": "ListTasks returns everything",
}


def test_the_list_names_tests_of_this_module() -> None:
    """A test that was renamed or removed leaves no entry behind."""
    assert [name for name in EMULATOR_DIFFERS if not hasattr(sys.modules[__name__], name)] == []


async def test_a_task_is_dispatched_and_then_gone(target: Target, worker: Worker) -> None:
    """The worker gets the method, the headers and the body; after a 2xx the task does not stand in the queue any more."""
    queue = await target.new_queue()
    http = {
        "http_method": "PUT",
        "headers": {"Content-Type": "application/json", "X-Mine": "a, b"},
        "body": b'{"a": 1}',
    }
    await target.create(queue, worker, http=http)
    request = await worker.asked(within=target.patience)
    await target.emptied(queue)
    assert (request.method, request.body) == ("PUT", b'{"a": 1}')
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-mine"] == "a, b"


async def test_a_task_without_a_name_gets_one(target: Target, worker: Worker) -> None:
    """And is a POST when it names no method."""
    queue = await target.new_queue()
    created = await target.create(queue, worker)
    assert created.name.startswith(f"{queue}/tasks/")
    assert (await worker.asked(within=target.patience)).method == "POST"


async def test_a_task_waits_for_its_time(target: Target, worker: Worker) -> None:
    """Nothing is sent before schedule_time."""
    queue = await target.new_queue()
    due = time.time() + 1
    await target.create(queue, worker, schedule_time=at(due))
    await worker.asked(within=target.patience)
    assert worker.arrivals[0] >= due


async def test_the_headers_tell_which_dispatch_it_is(target: Target, worker: Worker) -> None:
    """Queue and task by their ids, the counts, and when it was due."""
    queue = await target.new_queue()
    due = round(time.time(), 6)
    created = await target.create(queue, worker, name="mine", schedule_time=at(due + 0.5))
    headers = (await worker.asked(within=target.patience)).headers
    assert headers["x-cloudtasks-taskname"] == created.name.rpartition("/")[2] == "mine"
    assert (headers["x-cloudtasks-taskretrycount"], headers["x-cloudtasks-taskexecutioncount"]) == ("0", "0")
    assert float(headers["x-cloudtasks-tasketa"]) == pytest.approx(due + 0.5, abs=1e-5)
    assert headers["x-cloudtasks-queuename"] == queue.rpartition("/")[2]
    assert "x-cloudtasks-taskpreviousresponse" not in headers


@pytest.mark.parametrize("answer", [Reply(500), Reply(429), Reply(404)], ids=lambda reply: str(reply.status))
async def test_a_failure_is_tried_again(target: Target, worker: Worker, answer: Reply) -> None:
    """Any answer but a 2xx; the retries are counted."""
    worker.script = [answer, answer]
    queue = await target.new_queue()
    await target.create(queue, worker)
    await worker.asked(3, within=target.patience)
    await target.emptied(queue)
    assert [request.headers["x-cloudtasks-taskretrycount"] for request in worker.requests] == ["0", "1", "2"]


async def test_silence_is_tried_again(target: Target, worker: Worker) -> None:
    """A connection that ends without an answer is a failure."""
    worker.script = [Reply(raw=b"", then="close")]
    queue = await target.new_queue()
    await target.create(queue, worker)
    assert (await worker.asked(2, within=target.patience)).headers["x-cloudtasks-taskretrycount"] == "1"


async def test_executions_leave_out_5xx(target: Target, worker: Worker) -> None:
    """A 5xx counts as a retry and not as an execution."""
    worker.script = [Reply(503), Reply(404), Reply(500), Reply(429)]
    queue = await target.new_queue()
    await target.create(queue, worker)
    await worker.asked(5, within=target.patience)
    assert [request.headers["x-cloudtasks-taskexecutioncount"] for request in worker.requests] == [
        "0",
        "0",
        "1",
        "1",
        "2",
    ]


async def test_a_retry_names_the_answer_before_it(target: Target, worker: Worker) -> None:
    """By its status; the reason is sent, and empty."""
    worker.script = [Reply(503)]
    queue = await target.new_queue()
    await target.create(queue, worker)
    headers = (await worker.asked(2, within=target.patience)).headers
    assert headers.get("x-cloudtasks-taskpreviousresponse") == "503"
    assert headers.get("x-cloudtasks-taskretryreason") == ""


async def test_the_user_agent_is_google_s(target: Target, worker: Worker) -> None:
    """Whatever the task says."""
    queue = await target.new_queue()
    await target.create(queue, worker, http={"headers": {"user-agent": "mine"}})
    assert (await worker.asked(within=target.patience)).headers["user-agent"] == "Google-Cloud-Tasks"


async def test_headers_that_are_google_s_own_are_dropped(target: Target, worker: Worker) -> None:
    """Those that say who is calling; the others are sent."""
    queue = await target.new_queue()
    forged = {"X-CloudTasks-Forged": "1", "X-AppEngine-Forged": "1", "X-Google-Forged": "1", "Host": "elsewhere"}
    await target.create(queue, worker, http={"headers": {**forged, "X-Mine": "1"}})
    headers = (await worker.asked(within=target.patience)).headers
    assert headers["x-mine"] == "1"
    assert headers["host"] != "elsewhere"
    assert not any(name.endswith("-forged") for name in headers)


async def test_a_name_in_use_is_refused(target: Target, worker: Worker) -> None:
    """ALREADY_EXISTS while the task stands in its queue."""
    queue = await target.new_queue()
    await target.create(queue, worker, name="a", schedule_time=at(time.time() + 3600))
    with pytest.raises(exceptions.AlreadyExists, match="already exists"):
        await target.create(queue, worker, name="a")


async def test_a_name_used_recently_is_refused(target: Target, worker: Worker) -> None:
    """ALREADY_EXISTS after the task is done, in the same queue alone."""
    queue, other = await target.new_queue(), await target.new_queue()
    await target.create(queue, worker, name="a")
    await worker.asked(within=target.patience)
    await target.emptied(queue)
    await target.create(other, worker, name="a")
    with pytest.raises(exceptions.AlreadyExists, match="existed too recently"):
        await target.create(queue, worker, name="a")


async def test_a_task_can_be_looked_at(target: Target, worker: Worker) -> None:
    """What has come of it so far stands in it."""
    worker.script = [Reply(503)]
    queue = await target.new_queue(retry_config={"min_backoff": {"seconds": 600}})
    created = await target.create(queue, worker, name="a")
    await worker.asked(within=target.patience)
    task = await target.client.get_task(name=created.name)
    while not task.response_count:
        task = await target.client.get_task(name=created.name)
    assert (task.dispatch_count, task.response_count) == (1, 1)
    assert (task.last_attempt.response_status.code, "503" in task.last_attempt.response_status.message) == (14, True)
    assert task.first_attempt.dispatch_time == task.last_attempt.dispatch_time <= task.last_attempt.response_time
    assert task.last_attempt.schedule_time == created.schedule_time
    assert (task.schedule_time - task.last_attempt.response_time).total_seconds() == pytest.approx(600, abs=0.001)


async def test_no_such_task(target: Target) -> None:
    """NOT_FOUND."""
    queue = await target.new_queue()
    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        await target.client.get_task(name=f"{queue}/tasks/a")


async def test_a_task_that_is_gone_is_told_from_one_that_never_was(target: Target, worker: Worker) -> None:
    """NOT_FOUND, in other words."""
    queue = await target.new_queue()
    created = await target.create(queue, worker)
    await worker.asked(within=target.patience)
    await target.emptied(queue)
    with pytest.raises(exceptions.NotFound, match="existed recently"):
        await target.client.get_task(name=created.name)


async def test_a_task_can_be_run_by_hand(target: Target, worker: Worker) -> None:
    """Before its time, in a paused queue."""
    queue = await target.new_queue()
    await target.client.pause_queue(name=queue)
    created = await target.create(queue, worker, schedule_time=at(time.time() + 3600))
    await target.client.run_task(name=created.name)
    await worker.asked(within=target.patience)
    await target.emptied(queue)


async def test_a_task_can_be_deleted(target: Target, worker: Worker) -> None:
    """It is never sent then."""
    queue = await target.new_queue()
    created = await target.create(queue, worker, schedule_time=at(time.time() + 3600))
    await target.client.delete_task(name=created.name)
    assert await target.names(queue) == []
    with pytest.raises(exceptions.NotFound):
        await target.client.delete_task(name=created.name)


async def test_lists_come_in_pages(target: Target, worker: Worker) -> None:
    """As large as is asked for; the client fetches the next by itself."""
    queue = await target.new_queue()
    for name in "abcde":
        await target.create(queue, worker, name=name, schedule_time=at(time.time() + 3600))
    pager = await target.client.list_tasks(request={"parent": queue, "page_size": 2})
    assert [len(page.tasks) async for page in pager.pages] == [2, 2, 1]


async def test_a_batch(target: Target, worker: Worker) -> None:
    """Each task by itself: those that are refused are told by their place."""
    queue = await target.new_queue()
    http = {"url": worker.url}
    await target.create(queue, worker, name="taken", schedule_time=at(time.time() + 3600))
    wanted = [{"http_request": http}, {"http_request": http, "name": f"{queue}/tasks/taken"}, {"http_request": http}]
    requests = [{"parent": queue, "task": task} for task in wanted]
    operation = await target.client.batch_create_tasks(request={"parent": queue, "requests": requests})
    assert len((await operation.result()).tasks) == 2
    assert {place: status.code for place, status in operation.metadata.failed_requests.items()} == {1: 6}
    await worker.asked(2, within=target.patience)


async def test_the_basic_view_leaves_the_body_out(target: Target, worker: Worker) -> None:
    """FULL shows it."""
    queue = await target.new_queue()
    created = await target.create(queue, worker, http={"body": b"secret"}, schedule_time=at(time.time() + 3600))
    listed = [task async for task in await target.client.list_tasks(request={"parent": queue, "response_view": "FULL"})]
    assert [task.http_request.body for task in listed] == [b"secret"]
    assert created.http_request.body == b""


async def test_a_token_is_sent(target: Target, worker: Worker) -> None:
    """In the name of the account, for the audience; the task's own Authorization is replaced."""
    queue = await target.new_queue()
    oidc = {"service_account_email": "a@b.c", "audience": "https://worker"}
    await target.create(queue, worker, http={"oidc_token": oidc, "headers": {"authorization": "mine"}})
    request = await worker.asked(within=target.patience)
    [authorization] = [value for name, value in request.lines if name == "authorization"]
    scheme, _, token = authorization.partition(" ")
    assert scheme == "Bearer"
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["email"], claims["email_verified"]) == ("https://worker", "a@b.c", True)


async def test_a_retry_waits_for_the_backoff(target: Target, worker: Worker) -> None:
    """At least min_backoff."""
    worker.script = [Reply(503)]
    queue = await target.new_queue(retry_config={"min_backoff": {"seconds": 2}})
    await target.create(queue, worker)
    await worker.asked(2, within=target.patience)
    assert worker.arrivals[1] - worker.arrivals[0] >= 2


async def test_a_task_is_given_up_after_its_attempts(target: Target, worker: Worker) -> None:
    """Silently: it stands in the queue no more."""
    worker.answering = lambda request: Reply(200 if request.body else 503)
    queue = await target.new_queue(retry_config={"max_attempts": 2, "min_backoff": {"nanos": 10**7}})
    await target.create(queue, worker)
    try:
        await worker.asked(2, within=target.patience)
        await target.emptied(queue)
        # The emulator takes a task out of its queue while it sends it, and would send it again before two others.
        for body in (b"first", b"second"):
            await target.create(queue, worker, http={"body": body})
            await worker.asked_with(body, within=target.patience)
        assert [request.body for request in worker.requests] == [b"", b"", b"first", b"second"]
    finally:
        await target.client.delete_queue(name=queue)  # else the emulator goes on for ever


async def test_the_worker_can_ask_for_a_later_retry(target: Target, worker: Worker) -> None:
    """Retry-After counts when it is longer than the backoff."""
    worker.script = [Reply(429, headers={"retry-after": "2"})]
    queue = await target.new_queue()
    await target.create(queue, worker)
    await worker.asked(2, within=target.patience)
    assert worker.arrivals[1] - worker.arrivals[0] >= 2


async def test_a_redirect_is_followed_with_the_same_request(target: Target, worker: Worker) -> None:
    """A 307 leads to the same POST elsewhere, in the same attempt."""
    worker.script = [Reply(307, headers={"location": "/elsewhere"})]
    queue = await target.new_queue()
    await target.create(queue, worker, http={"body": b"body"})
    request = await worker.asked(2, within=target.patience)
    assert (request.path, request.method, request.body) == ("/elsewhere", "POST", b"body")
    assert request.headers["x-cloudtasks-taskretrycount"] == "0"
