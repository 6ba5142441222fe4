"""The forms of Google's resource names."""

import re
from typing import Final

from outboxkit_cli.cloud_tasks.refusals import invalid

_LOCATION: Final = r"projects/[A-Za-z0-9.:-]+/locations/[A-Za-z0-9-]+"
LOCATION: Final = re.compile(_LOCATION)
QUEUE: Final = re.compile(rf"({_LOCATION})/queues/[A-Za-z0-9-]{{1,100}}")
TASK: Final = re.compile(r"(.+/queues/[^/]+)/tasks/([^/]*)")
TASK_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,500}")


def check_queue(name: str) -> str:
    """Return a queue's name, refusing one that is malformed."""
    if not QUEUE.fullmatch(name):
        raise invalid("Invalid resource field value in the request.")
    return name


def check_new_queue(name: str, parent: str) -> str:
    """Return the name of a queue to make in the location `parent`, refusing one that is malformed or belongs elsewhere."""
    match = QUEUE.fullmatch(name)
    if match is None:
        raise invalid(
            'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".'
        )
    if match[1] != parent:
        raise invalid(f"{name} must begin with {parent}.")
    return name


def check_task(name: str) -> tuple[str, str]:
    """Return the queue's name and the task's id, refusing a name that is malformed."""
    match = TASK.fullmatch(name)
    if match is None or not QUEUE.fullmatch(match[1]):
        raise invalid(
            "Task name must be formatted: "
            '"projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>/tasks/<TASK_ID>"'
        )
    if not TASK_ID.fullmatch(match[2]):
        raise invalid(
            f'Task ID "{match[2]}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores (_). '
            "Task ID must between 1 and 500 characters."
        )
    return match[1], match[2]


def check_new_task(name: str, queue: str) -> None:
    """Refuse a name for a task that is malformed or belongs to another queue."""
    named, _ = check_task(name)
    if named != queue:
        raise invalid(
            f"The queue name from request ('{queue}') must be the same as the queue name in the named task ('{named}')."
        )
