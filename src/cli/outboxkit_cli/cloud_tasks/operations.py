"""BatchCreateTasks, and the long-running operations it returns; they are done before it does."""

import secrets
from typing import Any, Final

from google.cloud import tasks_v2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import code_pb2, status_pb2

from outboxkit_cli.cloud_tasks.api import FULL, Api
from outboxkit_cli.cloud_tasks.messages import task_message, timestamp
from outboxkit_cli.cloud_tasks.names import check_queue
from outboxkit_cli.cloud_tasks.refusals import Refusal, invalid, not_found
from outboxkit_cli.cloud_tasks.state import State

LARGEST_BATCH: Final = 100
_STATES: Final = tasks_v2.BatchCreateTasksMetadata.State


class Operations:
    """Operations by name; a request_id that comes again gets the operation it got before."""

    def __init__(self, state: State, api: Api) -> None:
        self._state = state
        self._api = api
        self._operations: dict[str, operations_pb2.Operation] = {}

    def get(self, request: Any) -> operations_pb2.Operation:
        """Return an operation."""
        if request.name not in self._operations:
            raise not_found()
        return self._operations[request.name]

    def batch_create_tasks(self, request: Any) -> operations_pb2.Operation:
        """Take in up to 100 tasks; those that are refused stand in the metadata by their place in the request."""
        self._api.allow_create(request.parent)
        self._check(request)
        location = request.parent.rpartition("/queues/")[0]
        name = f"{location}/operations/{request.request_id or secrets.token_hex(16)}"
        if name not in self._operations:
            self._operations[name] = self._batch(name, request)
        return self._operations[name]

    def _check(self, request: Any) -> None:
        self._state.queue(check_queue(request.parent))
        if not 1 <= len(request.requests) <= LARGEST_BATCH:
            raise invalid(f"BatchCreateTasksRequest.requests must hold between 1 and {LARGEST_BATCH} requests.")
        if any(each.parent != request.parent for each in request.requests):
            raise invalid("Every CreateTaskRequest.parent must be the same as BatchCreateTasksRequest.parent.")

    def _batch(self, name: str, request: Any) -> operations_pb2.Operation:
        began = timestamp(self._state.clock())
        made: list[tasks_v2.Task] = []
        refused: dict[int, status_pb2.Status] = {}
        for index, each in enumerate(request.requests):
            try:
                made.append(task_message(self._api.admit(each), full=each.response_view == FULL))
            except Refusal as refusal:
                refused[index] = status_pb2.Status(code=code_pb2.Code.Value(refusal.code), message=refusal.message)
        metadata = tasks_v2.BatchCreateTasksMetadata(
            start_time=began,
            end_time=timestamp(self._state.clock()),
            state=_STATES.PARTIALLY_SUCCEEDED if refused else _STATES.SUCCEEDED,
            failed_requests=refused,
        )
        return _done(name, metadata, made)


def _done(name: str, metadata: Any, made: list[tasks_v2.Task]) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(name=name, done=True, metadata=_packed(metadata))
    if made:
        operation.response.CopyFrom(_packed(tasks_v2.BatchCreateTasksResponse(tasks=made)))
    else:
        operation.error.code = code_pb2.ABORTED
        operation.error.message = (
            "None of the requests succeeded, refer to BatchCreateTasksMetadata.failed_requests "
            "for individual error details"
        )
    return operation


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(type(message).pb(message))
    return packed
