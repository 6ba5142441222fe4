"""gRPC round the methods: which there are, and how a refusal is answered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.cloud import tasks_v2
from google.longrunning import operations_pb2

from outboxkit_cli.cloud_tasks.api import Api
from outboxkit_cli.cloud_tasks.faults import CallFault
from outboxkit_cli.cloud_tasks.operations import Operations
from outboxkit_cli.cloud_tasks.refusals import Refusal
from outboxkit_cli.cloud_tasks.state import State

CLOUD_TASKS: Final = "google.cloud.tasks.v2.CloudTasks"
OPERATIONS: Final = "google.longrunning.Operations"


@dataclass(frozen=True)
class Method:
    """A unary method: what reads its request, and what does it."""

    request: Any
    run: Callable[[Any], Any]


def handlers(state: State, api: Api, operations: Operations) -> list[grpc.GenericRpcHandler]:
    """Return what a gRPC server needs to offer Google's service."""
    methods = {
        "CreateTask": Method(tasks_v2.CreateTaskRequest.pb(), api.create_task),
        "BatchCreateTasks": Method(tasks_v2.BatchCreateTasksRequest.pb(), operations.batch_create_tasks),
        "GetTask": Method(tasks_v2.GetTaskRequest.pb(), api.get_task),
        "ListTasks": Method(tasks_v2.ListTasksRequest.pb(), api.list_tasks),
        "DeleteTask": Method(tasks_v2.DeleteTaskRequest.pb(), api.delete_task),
        "RunTask": Method(tasks_v2.RunTaskRequest.pb(), api.run_task),
        "GetQueue": Method(tasks_v2.GetQueueRequest.pb(), api.get_queue),
        "ListQueues": Method(tasks_v2.ListQueuesRequest.pb(), api.list_queues),
        "CreateQueue": Method(tasks_v2.CreateQueueRequest.pb(), api.create_queue),
        "UpdateQueue": Method(tasks_v2.UpdateQueueRequest.pb(), api.update_queue),
        "DeleteQueue": Method(tasks_v2.DeleteQueueRequest.pb(), api.delete_queue),
        "PauseQueue": Method(tasks_v2.PauseQueueRequest.pb(), api.pause_queue),
        "ResumeQueue": Method(tasks_v2.ResumeQueueRequest.pb(), api.resume_queue),
        "PurgeQueue": Method(tasks_v2.PurgeQueueRequest.pb(), api.purge_queue),
    }
    getting = {"GetOperation": Method(operations_pb2.GetOperationRequest, operations.get)}
    return [_service(state, CLOUD_TASKS, methods), _service(state, OPERATIONS, getting)]


def _service(state: State, name: str, methods: dict[str, Method]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        name,
        {
            method: grpc.unary_unary_rpc_method_handler(
                _answering(state, method, what.run),
                request_deserializer=what.request.FromString,
                response_serializer=_serialized,
            )
            for method, what in methods.items()
        },
    )


def _answering(state: State, name: str, run: Callable[[Any], Any]) -> Any:
    """Return the method as gRPC calls it, with the faults that were asked for."""

    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        fault = state.faults.call(name)
        if fault is not None and not fault.after:
            await _fail(context, fault)
        try:
            response = run(request)
        except Refusal as refusal:
            await context.abort(grpc.StatusCode[refusal.code], refusal.message)
        if fault is not None:
            await _fail(context, fault)
        return response

    return answer


async def _fail(context: grpc.aio.ServicerContext, fault: CallFault) -> None:
    await context.abort(grpc.StatusCode[fault.code], fault.message)


def _serialized(message: Any) -> bytes:
    """Serialize Google's wrapped messages and plain protobuf alike."""
    plain = message if hasattr(message, "SerializeToString") else type(message).pb(message)
    return bytes(plain.SerializeToString())
