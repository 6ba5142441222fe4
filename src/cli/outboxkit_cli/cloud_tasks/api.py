"""The methods of Google's service, on this server's state. Plain functions: what they refuse is raised as a Refusal."""

from collections.abc import Iterable
from typing import Any, Final, TypeVar

from google.cloud import tasks_v2
from google.protobuf import empty_pb2

from outboxkit_cli.cloud_tasks.dispatcher import Dispatcher
from outboxkit_cli.cloud_tasks.messages import queue_message, task_message
from outboxkit_cli.cloud_tasks.names import LOCATION, check_new_queue, check_queue, check_task
from outboxkit_cli.cloud_tasks.queues import TaskQueue
from outboxkit_cli.cloud_tasks.refusals import invalid, lacks_permission
from outboxkit_cli.cloud_tasks.state import State
from outboxkit_cli.cloud_tasks.tasks import Task
from outboxkit_cli.cloud_tasks.validation import Strictness, new_task, rate_limits, retry_config

T = TypeVar("T")

LARGEST_PAGE: Final = 1000
FULL: Final = tasks_v2.Task.View.FULL


class Api:
    """Every method takes Google's request message, in protobuf, and returns its response."""

    def __init__(self, state: State, dispatcher: Dispatcher, strictness: Strictness) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._strictness = strictness

    def create_task(self, request: Any) -> tasks_v2.Task:
        """Take a task in."""
        self._allow("cloudtasks.tasks.create", request.parent)
        self._allow_full(request, request.parent)
        return task_message(self.admit(request), full=request.response_view == FULL)

    def admit(self, request: Any) -> Task:
        """Take in the task of one CreateTaskRequest, whose permissions have been looked at but for its account's."""
        state, faults, now = self._state, self._state.faults, self._state.clock()
        queue = state.queue(check_queue(request.parent))
        task = new_task(queue.name, request.task, now, self._strictness)
        self._allow_account(task)
        task.not_before = now + faults.delay if faults.delay else 0.0
        task.lost = state.dice.meets(faults.lost)
        queue.add(task, now)
        if state.dice.meets(faults.vanished):
            queue.delete(task.name, now)
        state.changed.set()
        return task

    def get_task(self, request: Any) -> tasks_v2.Task:
        """Return a task."""
        self._allow("cloudtasks.tasks.get", request.name)
        self._allow_full(request, request.name)
        _, task = self._find(request.name)
        return task_message(task, full=request.response_view == FULL)

    def list_tasks(self, request: Any) -> tasks_v2.ListTasksResponse:
        """Return a queue's tasks, a page at a time."""
        self._allow("cloudtasks.tasks.list", request.parent)
        self._allow_full(request, request.parent)
        page, token = _page(self._state.queue(check_queue(request.parent)), request)
        tasks = [task_message(task, full=request.response_view == FULL) for task in page]
        return tasks_v2.ListTasksResponse(tasks=tasks, next_page_token=token)

    def delete_task(self, request: Any) -> empty_pb2.Empty:
        """Delete a task."""
        self._allow("cloudtasks.tasks.delete", request.name)
        queue, task = self._find(request.name)
        queue.delete(task.name, self._state.clock())
        return empty_pb2.Empty()

    def run_task(self, request: Any) -> tasks_v2.Task:
        """Dispatch a task now, whatever its schedule, the queue's limits and a pause say."""
        self._allow("cloudtasks.tasks.run", request.name)
        self._allow_full(request, request.name)
        queue, task = self._find(request.name)
        attempt = queue.begin(task, self._state.clock())
        self._dispatcher.start(queue, task, attempt)
        return task_message(task, full=request.response_view == FULL)

    def get_queue(self, request: Any) -> tasks_v2.Queue:
        """Return a queue."""
        self._allow("cloudtasks.queues.get", request.name)
        return queue_message(self._state.queue(check_queue(request.name)))

    def list_queues(self, request: Any) -> tasks_v2.ListQueuesResponse:
        """Return a location's queues, a page at a time. Filters are not imitated."""
        self._allow("cloudtasks.queues.list", request.parent)
        page, token = _page((queue for queue in self._state if queue.name.startswith(f"{request.parent}/")), request)
        return tasks_v2.ListQueuesResponse(queues=[queue_message(queue) for queue in page], next_page_token=token)

    def create_queue(self, request: Any) -> tasks_v2.Queue:
        """Make a queue."""
        self._allow("cloudtasks.queues.create", request.parent)
        if not LOCATION.fullmatch(request.parent):
            raise invalid("Invalid resource field value in the request.")
        return self._make(check_new_queue(request.queue.name, request.parent), request.queue)

    def update_queue(self, request: Any) -> tasks_v2.Queue:
        """Change a queue's limits and retry settings, or make the queue."""
        self._allow("cloudtasks.queues.update", request.queue.name)
        name = check_queue(request.queue.name)
        if name not in self._state:
            return self._make(name, request.queue)
        queue, wanted = self._state.queue(name), request.queue
        if request.update_mask.paths:
            wanted = tasks_v2.Queue.pb(queue_message(queue))
            request.update_mask.MergeMessage(request.queue, wanted, replace_message_field=True)
        queue.retries, limits = retry_config(wanted.retry_config), rate_limits(wanted.rate_limits)
        queue.limit(limits, self._state.clock())
        return self._changed(queue)

    def delete_queue(self, request: Any) -> empty_pb2.Empty:
        """Delete a queue with its tasks."""
        self._allow("cloudtasks.queues.delete", request.name)
        self._state.delete(check_queue(request.name))
        return empty_pb2.Empty()

    def pause_queue(self, request: Any) -> tasks_v2.Queue:
        """Dispatch nothing of a queue any more; what is under way goes on."""
        self._allow("cloudtasks.queues.pause", request.name)
        queue = self._state.queue(check_queue(request.name))
        queue.paused = True
        return self._changed(queue)

    def resume_queue(self, request: Any) -> tasks_v2.Queue:
        """Dispatch again."""
        self._allow("cloudtasks.queues.resume", request.name)
        queue = self._state.queue(check_queue(request.name))
        queue.paused = False
        return self._changed(queue)

    def purge_queue(self, request: Any) -> tasks_v2.Queue:
        """Delete every task of a queue."""
        self._allow("cloudtasks.queues.purge", request.name)
        queue = self._state.queue(check_queue(request.name))
        queue.purge(self._state.clock())
        return self._changed(queue)

    def allow_create(self, parent: str) -> None:
        """Refuse a caller who may not make tasks in this queue."""
        self._allow("cloudtasks.tasks.create", parent)

    def _allow(self, permission: str, resource: str) -> None:
        if permission in self._state.faults.denied:
            raise lacks_permission(permission, resource)

    def _allow_full(self, request: Any, resource: str) -> None:
        if request.response_view == FULL:
            self._allow("cloudtasks.tasks.fullView", resource)

    def _allow_account(self, task: Task) -> None:
        usable, token = self._state.faults.usable_accounts, task.request.oidc
        if token is not None and usable is not None and token.email not in usable:
            raise lacks_permission("iam.serviceAccounts.actAs", token.email)

    def _find(self, name: str) -> tuple[TaskQueue, Task]:
        queue = self._state.queue(check_task(name)[0])
        return queue, queue.get(name, self._state.clock())

    def _make(self, name: str, message: Any) -> tasks_v2.Queue:
        retries, limits = retry_config(message.retry_config), rate_limits(message.rate_limits)
        return queue_message(self._state.create(name, retries=retries, limits=limits))

    def _changed(self, queue: TaskQueue) -> tasks_v2.Queue:
        self._state.changed.set()
        return queue_message(queue)


def _page(items: Iterable[T], request: Any) -> tuple[list[T], str]:
    """Return a page of items and the token of the next. A page's token is the place where it begins."""
    if request.page_token and not request.page_token.isdigit():
        raise invalid("Invalid page token.")
    start, size = int(request.page_token or 0), min(request.page_size or LARGEST_PAGE, LARGEST_PAGE)
    everything = list(items)
    end = start + size
    return everything[start:end], str(end) if end < len(everything) else ""
