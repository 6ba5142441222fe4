"""From tasks and queues to Google's messages."""

from google.cloud import tasks_v2
from google.protobuf import duration_pb2, timestamp_pb2
from google.rpc import code_pb2, status_pb2

from outboxkit_cli.cloud_tasks.queues import TaskQueue
from outboxkit_cli.cloud_tasks.tasks import Answer, Attempt, Task

_CODES = {
    0: code_pb2.UNAVAILABLE,
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.NOT_FOUND,
    409: code_pb2.ABORTED,
    429: code_pb2.RESOURCE_EXHAUSTED,
    499: code_pb2.CANCELLED,
    500: code_pb2.INTERNAL,
    501: code_pb2.UNIMPLEMENTED,
    503: code_pb2.UNAVAILABLE,
    504: code_pb2.DEADLINE_EXCEEDED,
}


def task_message(task: Task, *, full: bool) -> tasks_v2.Task:
    """Return a task as a response shows it: in the view FULL with everything, in BASIC without body and token."""
    message = tasks_v2.Task(
        name=task.name,
        http_request=_request(task, full=full),
        schedule_time=timestamp(task.scheduled),
        create_time=timestamp(float(int(task.created))),
        dispatch_deadline=duration(task.deadline),
        dispatch_count=task.dispatch_count,
        response_count=task.response_count,
        view=tasks_v2.Task.View.FULL if full else tasks_v2.Task.View.BASIC,
    )
    if task.first_dispatched is not None:
        message.first_attempt = tasks_v2.Attempt(dispatch_time=timestamp(task.first_dispatched))
    if task.last is not None:
        message.last_attempt = _attempt(task.last)
    return message


def queue_message(queue: TaskQueue) -> tasks_v2.Queue:
    """Return a queue as a response shows it."""
    retries, limits = queue.retries, queue.limits
    message = tasks_v2.Queue(
        name=queue.name,
        state=tasks_v2.Queue.State.PAUSED if queue.paused else tasks_v2.Queue.State.RUNNING,
        rate_limits=tasks_v2.RateLimits(
            max_dispatches_per_second=limits.max_dispatches_per_second,
            max_burst_size=limits.max_burst_size,
            max_concurrent_dispatches=limits.max_concurrent_dispatches,
        ),
        retry_config=tasks_v2.RetryConfig(
            max_attempts=retries.max_attempts,
            min_backoff=duration(retries.min_backoff),
            max_backoff=duration(retries.max_backoff),
            max_doublings=retries.max_doublings,
        ),
    )
    if retries.max_retry_duration:
        message.retry_config.max_retry_duration = duration(retries.max_retry_duration)
    if queue.purged is not None:
        message.purge_time = timestamp(queue.purged)
    return message


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """Return a time, to the microsecond."""
    whole, micros = divmod(round(seconds * 1e6), 10**6)
    return timestamp_pb2.Timestamp(seconds=whole, nanos=micros * 1000)


def duration(seconds: float) -> duration_pb2.Duration:
    """Return a length of time, to the microsecond."""
    whole, micros = divmod(round(seconds * 1e6), 10**6)
    return duration_pb2.Duration(seconds=whole, nanos=micros * 1000)


def _request(task: Task, *, full: bool) -> tasks_v2.HttpRequest:
    request = task.request
    message = tasks_v2.HttpRequest(url=request.url, http_method=request.method, headers=request.headers)
    if full:
        message.body = request.body
    if full and request.oidc is not None:
        message.oidc_token = tasks_v2.OidcToken(
            service_account_email=request.oidc.email, audience=request.oidc.audience
        )
    return message


def _attempt(attempt: Attempt) -> tasks_v2.Attempt:
    message = tasks_v2.Attempt(schedule_time=timestamp(attempt.scheduled), dispatch_time=timestamp(attempt.dispatched))
    if attempt.ended is not None and attempt.answer is not None:
        message.response_time = timestamp(attempt.ended)
        message.response_status = _status(attempt.answer)
    return message


def _status(answer: Answer) -> status_pb2.Status:
    code = _CODES.get(answer.status, code_pb2.UNKNOWN)
    name = code_pb2.Code.Name(code)
    return status_pb2.Status(code=code, message=f"{name}({code}): HTTP status code {answer.status}")
