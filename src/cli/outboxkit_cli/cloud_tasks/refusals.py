"""What a call is refused with: Google's status codes, and its words where they are known."""

from typing import Final

QUEUE_NOT_FOUND: Final = (
    "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize."
)
TASK_GONE: Final = (
    "The task no longer exists, though a task with this name existed recently. "
    "The task either successfully completed or was deleted."
)
TASK_NAME_USED: Final = (
    "The task cannot be created because a task with this name existed too recently. For more information, see "
    "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create#body.request_body.FIELDS.task"
)
QUEUE_NAME_USED: Final = "The queue cannot be created because a queue with this name existed too recently."


class Refusal(Exception):  # noqa: N818 (an answer, and no fault of the server)
    """A call that is answered with an error; `code` is the name of a gRPC status."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> Refusal:
    """Return the refusal of an argument."""
    return Refusal("INVALID_ARGUMENT", message)


def not_found(message: str = "Requested entity was not found.") -> Refusal:
    """Return the refusal of a call about something that is not there."""
    return Refusal("NOT_FOUND", message)


def lacks_permission(permission: str, resource: str) -> Refusal:
    """Return the refusal of a caller whose roles do not hold a permission on a resource."""
    return Refusal(
        "PERMISSION_DENIED",
        f'The principal (user or service account) lacks IAM permission "{permission}" for the resource "{resource}" '
        "(or the resource may not exist).",
    )
