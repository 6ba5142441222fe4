"""Creates tasks: one call each, or up to a hundred in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from outboxkit.batching import MicroBatcher

if TYPE_CHECKING:
    from google.cloud.tasks_v2 import CloudTasksAsyncClient, Task


# Seconds that a call may take beyond the delivery's own deadline, which ends it first, with its own words. What Google is
# told only keeps it from working on for nobody.
BEYOND: Final = 1.0


class Creation(Protocol):
    """A way to create tasks in one queue."""

    async def create(self, client: CloudTasksAsyncClient, task: Task) -> None:
        """Create the task. Raises what the API says about it, AlreadyExists too."""
        ...


class OneByOne:
    """CreateTask: an answer for each, as soon as it is there."""

    def __init__(self, *, parent: str, deadline: float) -> None:
        """`parent` is the queue's path; `deadline` in seconds."""
        self._parent = parent
        self._deadline = deadline

    async def create(self, client: CloudTasksAsyncClient, task: Task) -> None:
        """One call."""
        await client.create_task(
            request={"parent": self._parent, "task": task}, retry=None, timeout=self._deadline + BEYOND
        )


class Together:
    """BatchCreateTasks: what is to be created at the same time goes in one call, and costs a sixth of the time.

    The answer is a long-running operation, which holds the tasks that were created, and for each of the others the reason.
    """

    def __init__(self, *, parent: str, deadline: float, size: int) -> None:
        """As OneByOne; `size` tasks a call at most, of which the API takes a hundred."""
        self._parent = parent
        self._deadline = deadline
        self._batches: MicroBatcher[tuple[CloudTasksAsyncClient, Task], Exception | None] = MicroBatcher(
            self._flush, size=size, in_flight=4
        )

    async def create(self, client: CloudTasksAsyncClient, task: Task) -> None:
        """One call for whatever has gathered."""
        refused = await self._batches.submit((client, task))
        if refused is not None:
            raise refused

    async def _flush(self, batch: Sequence[tuple[CloudTasksAsyncClient, Task]]) -> Sequence[Exception | None]:
        client = batch[0][0]
        request = {"parent": self._parent, "requests": [{"parent": self._parent, "task": task} for _, task in batch]}
        operation = await client.batch_create_tasks(request=request, retry=None, timeout=self._deadline + BEYOND)
        try:
            await operation.result(timeout=self._deadline + BEYOND)
        except Exception:
            # An operation may fail as a whole because of some of its tasks; these are named then.
            if not (failed := _failed(operation)):
                raise
        else:
            failed = _failed(operation)
        return [failed.get(index) for index in range(len(batch))]


def _failed(operation: Any) -> dict[int, Exception]:
    from google.api_core.exceptions import from_grpc_status  # of the extra cloud-tasks

    metadata = operation.metadata
    requests = {} if metadata is None else metadata.failed_requests
    return {int(index): from_grpc_status(status.code, status.message) for index, status in requests.items()}
