"""The headers of a dispatch."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from outboxkit_cli.cloud_tasks.tasks import Attempt, Task


def dispatch_headers(task: Task, attempt: Attempt, *, token: str | None) -> dict[str, str]:
    """Return what Google sends: the task's own headers, and those that say which dispatch of which task this is."""
    own = {name: value for name, value in task.request.headers.items() if token is None or not _authorizes(name)}
    queue, _, identifier = task.name.rsplit("/", 2)
    headers = {
        **own,
        "X-CloudTasks-QueueName": queue.rpartition("/")[2],
        "X-CloudTasks-TaskName": identifier,
        "X-CloudTasks-TaskRetryCount": str(attempt.number - 1),
        "X-CloudTasks-TaskExecutionCount": str(attempt.executions),
        "X-CloudTasks-TaskETA": f"{attempt.scheduled:.6f}",
    }
    if attempt.previous is not None:
        headers["X-CloudTasks-TaskPreviousResponse"] = str(attempt.previous.status)
        headers["X-CloudTasks-TaskRetryReason"] = ""  # what Google sends, whatever the answer was
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that an answer asks to wait (RFC 9110 §10.2.3); None when it does not, or not legibly."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def _authorizes(name: str) -> bool:
    return name.lower() == "authorization"
