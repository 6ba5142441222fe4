"""What our server does with the worker's answers, beyond what it shares with other emulators."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from google.api_core import exceptions

from integration.cloud_tasks.server.targets import Target, Worker, at, connected
from outboxkit_cli.cloud_tasks.faults import Faults
from outboxkit_cli.cloud_tasks.rates import RateLimits
from outboxkit_cli.cloud_tasks.retries import RetryConfig
from outboxkit_cli.cloud_tasks.server import CloudTasksServer, ServerOptions
from outboxkit_cli.cloud_tasks.tasks import NO_ANSWER, NO_CONNECTION
from outboxkit_cli.cloud_tasks.validation import Strictness
from outboxkit_cli.failures import CommandFailed
from sink import HALF, RESET, SILENCE, Reply, free_port
from waiting import until_async

HOUR = 3600.0


async def ended(server: CloudTasksServer, count: int = 1) -> None:
    """Wait until so many dispatches have ended."""
    await until_async(lambda: len(server.dispatches) >= count, what=f"{count} dispatches to end")


async def test_the_deadline_gives_an_attempt_up(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """Silence longer than dispatch_deadline is a DEADLINE_EXCEEDED, is tried again, and counts as no response."""
    worker.script = [SILENCE]
    await tasks.create(server.queue_path(), worker, dispatch_deadline={"nanos": 10**8})
    headers = (await worker.asked(2)).headers
    await ended(server, 2)
    assert server.dispatches[0].answer == NO_ANSWER
    assert (headers["x-cloudtasks-taskpreviousresponse"], headers["x-cloudtasks-taskexecutioncount"]) == ("504", "0")


async def test_an_attempt_that_timed_out_shows_in_the_task(
    server: CloudTasksServer, tasks: Target, worker: Worker
) -> None:
    """Dispatched once, answered never, and why."""
    worker.script = [SILENCE]
    server.queue().retries = RetryConfig(min_backoff=HOUR)
    await tasks.create(server.queue_path(), worker, dispatch_deadline={"nanos": 10**8})
    await ended(server)
    [task] = server.tasks()
    assert (task.dispatch_count, task.response_count) == (1, 0)
    assert task.last_attempt.response_status.message == "DEADLINE_EXCEEDED(4): HTTP status code 504"


async def test_an_answer_that_never_ends_is_given_up(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """The deadline is for the whole answer, not for its beginning."""
    worker.script = [Reply(200, headers={"content-length": str(10**12)}, then="endless")]
    await tasks.create(server.queue_path(), worker, dispatch_deadline={"nanos": 2 * 10**8})
    await worker.asked(2)
    assert server.dispatches[0].answer == NO_ANSWER


@pytest.mark.parametrize(
    "broken", [RESET, HALF, Reply(raw=b"nonsense\r\n\r\n", then="close")], ids=["reset", "half", "noise"]
)
async def test_a_broken_answer_is_none(server: CloudTasksServer, tasks: Target, worker: Worker, broken: Reply) -> None:
    """Even when its first line was a success."""
    worker.script = [broken]
    await tasks.create(server.queue_path(), worker)
    await worker.asked(2)
    assert server.dispatches[0].answer == NO_CONNECTION


async def test_nobody_listens(server: CloudTasksServer, tasks: Target) -> None:
    """A refused connection is tried again too, as is a URL that leads nowhere."""
    for url in (f"http://127.0.0.1:{free_port()}", "http://"):
        await tasks.client.create_task(parent=server.queue_path(), task={"http_request": {"url": url}})
    await ended(server, 4)
    assert {dispatch.answer for dispatch in server.dispatches} == {NO_CONNECTION}


async def test_a_loop_of_redirects_is_one_failure(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """It is tried again as any other failure."""
    worker.answering = lambda _: Reply(302, headers={"location": worker.url})
    await tasks.create(server.queue_path(), worker)
    await ended(server)
    assert (server.dispatches[0].answer.status, server.dispatches[0].answer.success) == (302, False)


async def test_a_redirect_elsewhere_is_not_told_the_token(
    server: CloudTasksServer, tasks: Target, worker: Worker
) -> None:
    """Another host gets the request and no Authorization."""
    elsewhere = worker.url.replace("127.0.0.1", "localhost")
    worker.script = [Reply(307, headers={"location": elsewhere})]
    await tasks.create(server.queue_path(), worker, http={"oidc_token": {"service_account_email": "a@b.c"}})
    followed = await worker.asked(2)
    assert "authorization" in worker.requests[0].headers
    assert "authorization" not in followed.headers


async def test_a_date_in_retry_after_counts(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """Not only seconds do."""
    then = datetime.now(UTC) + timedelta(hours=1)
    worker.script = [Reply(503, headers={"retry-after": format_datetime(then, usegmt=True)})]
    await tasks.create(server.queue_path(), worker)
    await ended(server)
    [task] = server.tasks()
    assert abs((task.schedule_time - then).total_seconds()) < 2
    server.advance(HOUR)
    await worker.asked(2)


async def test_a_clock_that_is_put_forward_brings_what_is_due(
    server: CloudTasksServer, tasks: Target, worker: Worker
) -> None:
    """A test need not wait for an hour to pass."""
    await tasks.create(server.queue_path(), worker, schedule_time=at(time.time() + HOUR))
    server.advance(HOUR)
    await worker.asked()


async def test_a_name_can_be_used_again_after_an_hour(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """Or whatever the server was told."""
    queue = server.queue_path()
    await tasks.create(queue, worker, name="a")
    await ended(server)
    with pytest.raises(exceptions.AlreadyExists):
        await tasks.create(queue, worker, name="a")
    server.advance(HOUR)
    await tasks.create(queue, worker, name="a")


async def test_more_can_be_under_way_than_a_client_s_pool_holds(
    server: CloudTasksServer, tasks: Target, worker: Worker
) -> None:
    """The queue's own limit alone counts: 150 requests wait at once."""
    let = asyncio.Event()

    async def wait(_: object) -> Reply:
        await let.wait()
        return Reply(200)

    worker.answering = wait
    server.queue().limit(RateLimits(max_burst_size=1000), server.state.clock())
    for _ in range(150):
        await tasks.create(server.queue_path(), worker)
    await worker.asked(150)
    let.set()
    await tasks.emptied(server.queue_path())
    assert len(worker.requests) == 150


async def test_a_running_task_can_be_run_again(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """RunTask dispatches it although it runs; it is gone after the first success."""
    worker.script = [SILENCE]
    created = await tasks.create(server.queue_path(), worker)
    await worker.asked()
    await tasks.client.run_task(name=created.name)
    assert (await worker.asked(2)).headers["x-cloudtasks-taskretrycount"] == "1"
    await tasks.emptied(server.queue_path())


async def test_a_plain_url_gets_no_token_when_google_s_rule_is_wanted(worker: Worker) -> None:
    """Google refuses it; this server does so if it is told to."""
    options = ServerOptions(strictness=Strictness(https_required=True))
    async with CloudTasksServer(options) as server, connected("ours", server.address, patience=30) as tasks:
        with pytest.raises(exceptions.InvalidArgument, match="must start with 'https://'"):
            await tasks.create(server.queue_path(), worker, http={"oidc_token": {"service_account_email": "a@b.c"}})
        await tasks.create(server.queue_path(), worker)


async def test_a_batch_that_fails_as_a_whole(server: CloudTasksServer, tasks: Target) -> None:
    """No task of it: the operation's result is an error; too many, or for several queues: the call is refused."""
    queue = server.queue_path()
    bad = {"parent": queue, "task": {"http_request": {"url": "ftp://x"}}}
    operation = await tasks.client.batch_create_tasks(request={"parent": queue, "requests": [bad]})
    with pytest.raises(exceptions.GoogleAPICallError, match="None of the requests succeeded"):
        await operation.result()
    for requests in ([bad] * 101, [], [{**bad, "parent": f"{queue}-other"}]):
        with pytest.raises(exceptions.InvalidArgument):
            await tasks.client.batch_create_tasks(request={"parent": queue, "requests": requests})


async def test_a_batch_that_is_sent_again_is_made_once(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """The same request_id gets the same operation, which can also be asked for by name."""
    queue = server.queue_path()
    one = {"parent": queue, "task": {"http_request": {"url": worker.url}, "schedule_time": at(time.time() + HOUR)}}
    batch = {"parent": queue, "requests": [one], "request_id": "mine"}
    first, second = [await tasks.client.batch_create_tasks(request=batch) for _ in range(2)]
    assert first.operation == second.operation
    assert len(server.tasks()) == 1
    found = await tasks.client.get_operation({"name": first.operation.name})
    assert found == first.operation
    with pytest.raises(exceptions.NotFound):
        await tasks.client.get_operation({"name": "projects/p/locations/l/operations/none"})


async def test_a_port_that_is_taken_is_said() -> None:
    """For either side; nothing is left running."""
    async with CloudTasksServer() as server:
        grpc_port, http_port = (int(where.rpartition(":")[2]) for where in (server.address, server.issuer))
        for options in (ServerOptions(port=grpc_port), ServerOptions(http_port=http_port)):
            with pytest.raises(CommandFailed, match="cannot listen on"):
                async with CloudTasksServer(options):
                    pass


async def test_the_basic_view_leaves_the_token_out(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """Whose identity a dispatch carries is shown in FULL alone."""
    server.queue().paused = True
    created = await tasks.create(server.queue_path(), worker, http={"oidc_token": {"service_account_email": "a@b.c"}})
    full = await tasks.client.get_task(request={"name": created.name, "response_view": "FULL"})
    assert not created.http_request.oidc_token
    assert full.http_request.oidc_token.service_account_email == "a@b.c"
    assert [task.http_request.oidc_token.service_account_email for task in server.tasks()] == ["a@b.c"]


async def test_what_this_server_does_not_imitate_is_said(
    server: CloudTasksServer, tasks: Target, worker: Worker
) -> None:
    """App Engine tasks and OAuth tokens are UNIMPLEMENTED, and no task is made that would behave otherwise than Google's."""
    oauth = {"url": worker.url, "oauth_token": {"service_account_email": "a@b.c"}}
    for task in ({"app_engine_http_request": {}}, {"http_request": oauth}):
        with pytest.raises(exceptions.MethodNotImplemented):
            await tasks.client.create_task(parent=server.queue_path(), task=task)
    assert server.tasks() == []


async def test_faults_can_be_there_from_the_start(worker: Worker) -> None:
    """And the options that name them can be used again."""
    options = ServerOptions(faults=Faults(lost=1))
    async with CloudTasksServer(options) as server:
        server.faults.lost = 0
    async with CloudTasksServer(options) as server, connected("ours", server.address, patience=30) as tasks:
        assert server.faults == Faults(lost=1)
        await tasks.create(server.queue_path(), worker)
        assert (len(server.tasks()), server.queue().next_due(server.state.clock())) == (1, None)


async def test_what_is_under_way_ends_with_the_server(worker: Worker) -> None:
    """A request that is not answered holds nothing up."""
    worker.script = [SILENCE]
    async with CloudTasksServer() as server, connected("ours", server.address, patience=30) as tasks:
        await tasks.create(server.queue_path(), worker)
        await worker.asked()
    assert server.dispatches == []


async def test_how_long_a_name_stays_taken_can_be_set(worker: Worker) -> None:
    """tombstone_seconds is Google's hour unless a test wants another."""
    options = ServerOptions(tombstone_seconds=2 * HOUR)
    async with CloudTasksServer(options) as server, connected("ours", server.address, patience=30) as tasks:
        await tasks.create(server.queue_path(), worker, name="a")
        await ended(server)
        server.advance(HOUR + 60)
        with pytest.raises(exceptions.AlreadyExists):
            await tasks.create(server.queue_path(), worker, name="a")
        server.advance(HOUR)
        await tasks.create(server.queue_path(), worker, name="a")
