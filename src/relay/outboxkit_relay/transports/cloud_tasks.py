"""Turns triggers into Cloud Tasks, which calls the worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outboxkit.settings import Secret
from outboxkit.traces import parse as parse_traceparent
from outboxkit_contracts import headers
from outboxkit_contracts.actions import Action, Verdict, no_answer
from outboxkit_contracts.messages import encode_trigger
from outboxkit_relay.task_names import QueueName
from outboxkit_relay.transports import Custody, Outcome
from outboxkit_relay.transports.grpc_errors import judge_error
from outboxkit_relay.transports.task_creation import BEYOND, Creation
from outboxkit_relay.triggers import Trigger

if TYPE_CHECKING:
    from google.cloud.tasks_v2 import CloudTasksAsyncClient, Task

log = logging.getLogger(__name__)

# Cloud Tasks takes schedules up to 30 days ahead. An hour less: its clock is not the database's.
AHEAD: Final = timedelta(days=30) - timedelta(hours=1)

# Seconds for which GetTask is not tried again after it was forbidden: roles are granted while relays run.
FORBIDDEN_FOR: Final = 600.0

_TAKEN: Final = Outcome(Verdict(Action.ACK, "a task was created"), custody=Custody.TAKEN)

Connect = Callable[[], Awaitable["CloudTasksAsyncClient"]]


class TaskPattern(msgspec.Struct, frozen=True, kw_only=True):
    """What all tasks of one destination have in common."""

    queue: QueueName
    url: str
    wait: int
    """Seconds the worker may wait for its job before it answers; less than the dispatch deadline."""
    dispatch_deadline: int
    """Seconds after which Cloud Tasks gives up a call and makes another."""
    account: str | None = None
    """The service account as which Cloud Tasks calls the worker."""
    audience: str | None = None
    secret: Secret | None = None
    """Sent only where no account is: a task may lie in its queue for 30 days, for whoever may read it."""


class CloudTasksTransport:
    """One queue of Cloud Tasks and one worker behind it. It keeps schedules, calls the worker, and tries again.

    A trigger is delivered when its task exists, or existed: its name is made of the job's id and the outbox row's, so a
    relay that died between CreateTask and settlement, or two that hold the same row, make one task (ALREADY_EXISTS).

    What was handed over before and has not begun in time is asked for first (GetTask): a job in a long backlog must not get
    one task after the other. Where that is forbidden a new task is made, and so it is when the task was found waiting time
    and again: it may have been lost in some other way. The earlier one is harmless if it still comes.
    """

    def __init__(
        self, pattern: TaskPattern, *, connect: Connect, creation: Creation, deadline: float, patience: int
    ) -> None:
        """`connect` gives the client, the same for all; it may be slow the first time. `deadline` in seconds.

        `patience` is how many rescues may be excused until another task is made beside one that was never dispatched.
        """
        self._pattern = pattern
        self._connect = connect
        self._creation = creation
        self._deadline = deadline
        self._patience = patience
        self._may_look_at = float("-inf")

    async def deliver(self, trigger: Trigger) -> Outcome:
        """Create the task, unless it or an earlier one of the same job is there."""
        try:
            async with asyncio.timeout(self._deadline):
                client = await self._connect()
                found = await self._earlier(client, trigger)
                return found or await self._create(client, trigger)
        except TimeoutError:
            return Outcome(no_answer(f"no answer of Cloud Tasks within {self._deadline:g} s"))
        except Exception as error:  # noqa: BLE001 (of gRPC, of google-auth, and of what both are made of)
            return Outcome(judge_error(error, self._pattern))

    async def close(self) -> None:
        """Nothing: the client is shared, and whoever made it closes it."""

    async def _create(self, client: CloudTasksAsyncClient, trigger: Trigger) -> Outcome:
        from google.api_core.exceptions import AlreadyExists  # of the extra cloud-tasks; loaded when there is a client

        try:
            await self._creation.create(client, self._task(trigger))
        except AlreadyExists:
            log.info("the task is there already", extra={"job_id": trigger.job_id})
        return _TAKEN

    async def _earlier(self, client: CloudTasksAsyncClient, trigger: Trigger) -> Outcome | None:
        """What has become of the job's earlier task: None when it is gone, when there was none, and when nobody may ask."""
        if trigger.previous is None or monotonic() < self._may_look_at:
            return None
        from google.api_core.exceptions import NotFound, PermissionDenied

        try:
            name = self._pattern.queue.task(trigger.job_id, trigger.previous)
            task = await client.get_task(name=name, retry=None, timeout=self._deadline + BEYOND)
        except NotFound:
            return None
        except PermissionDenied:
            self._may_look_at = monotonic() + FORBIDDEN_FOR
            log.warning(
                "GetTask is forbidden, so a job that waits long in %s gets several tasks: grant roles/cloudtasks.viewer",
                self._pattern.queue.path,
            )
            return None
        custody = Custody.TRIED if task.dispatch_count else Custody.WAITING
        if custody is Custody.WAITING and (trigger.excused or 0) > self._patience:
            return None
        return Outcome(Verdict(Action.ACK, f"the earlier task is still there ({custody.value})"), custody=custody)

    def _task(self, trigger: Trigger) -> Task:
        from google.cloud import tasks_v2
        from google.protobuf import duration_pb2, timestamp_pb2

        pattern = self._pattern
        request: dict[str, Any] = {
            "url": pattern.url,
            "http_method": tasks_v2.HttpMethod.POST,
            "headers": self._headers(trigger),
            "body": encode_trigger(trigger.job_id, trigger.kind),
        }
        if pattern.account is not None:
            request["oidc_token"] = tasks_v2.OidcToken(service_account_email=pattern.account, audience=pattern.audience)
        task = tasks_v2.Task(
            name=pattern.queue.task(trigger.job_id, trigger.id),
            http_request=tasks_v2.HttpRequest(**request),
            dispatch_deadline=duration_pb2.Duration(seconds=pattern.dispatch_deadline),
        )
        if trigger.scheduled_at is not None:
            stamp = timestamp_pb2.Timestamp()
            stamp.FromDatetime(trigger.scheduled_at)
            task.schedule_time = stamp
        return task

    def _headers(self, trigger: Trigger) -> dict[str, str]:
        found = {headers.CONTENT_TYPE: "application/json", headers.PREFER: f"wait={self._pattern.wait}"}
        if (traceparent := parse_traceparent(trigger.traceparent)) is not None:
            found[headers.TRACEPARENT] = traceparent
        if self._pattern.secret is not None and self._pattern.account is None:
            found[headers.WORKER_TRIGGER] = self._pattern.secret.reveal()
        return found
