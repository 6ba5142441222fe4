"""POST /process-job: the protocol's one operation. The hot path, so it speaks ASGI itself."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final
from uuid import UUID

import psycopg

from outboxkit import traces
from outboxkit.settings import Secret
from outboxkit_contracts.headers import parse_prefer_wait
from outboxkit_contracts.messages import MAX_REQUEST_SECONDS, MalformedTrigger, parse_trigger
from outboxkit_contracts.problems import ProblemType
from outboxkit_worker import replies
from outboxkit_worker.arrival import read_body
from outboxkit_worker.credentials import Credentials
from outboxkit_worker.draining import Draining
from outboxkit_worker.refusals import printable
from outboxkit_worker.replies import Reply
from outboxkit_worker.runs import UNRECORDED, Run
from outboxkit_worker.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litestar.types import Receive, Scope, Send

    from outboxkit.leases import JobState
    from outboxkit_worker.tokens import TokenVerifier

log = logging.getLogger(__name__)

# A claim that finds no row though the job is queued and due is made again; more often than this something is odd.
_TRIES: Final = 3

_JSON: Final = b"application/json"

# What Cloud Tasks says of a task, and the name it is logged under. Anybody can send it: it decides nothing.
_CLOUD_TASKS: Final = (
    (b"x-cloudtasks-queuename", "task_queue"),
    (b"x-cloudtasks-taskname", "task_name"),
    (b"x-cloudtasks-taskretrycount", "task_retry_count"),
    (b"x-cloudtasks-taskexecutioncount", "task_execution_count"),
)


class TriggerEndpoint:
    """Answers triggers. Set `service` once there is a database."""

    def __init__(
        self,
        *,
        secrets: Sequence[Secret],
        wait_max: float,
        draining: Draining,
        tokens: TokenVerifier | None = None,
        both: bool = False,
        read_seconds: float = MAX_REQUEST_SECONDS,
    ) -> None:
        """`wait_max` and `read_seconds` (for the body) in seconds. `secrets`, `tokens` and `both` as of Credentials."""
        self.service: Service | None = None
        self._credentials = Credentials(secrets=secrets, tokens=tokens, both=both)
        self._wait_max = int(wait_max)
        self._draining = draining
        self._read_seconds = read_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            reply = await self._answer(scope, receive)
        except ConnectionResetError:
            return
        except psycopg.Error as error:
            log.warning("a trigger found no database: %s", error)
            reply = replies.no_database("The job could not be looked up; the worker's log has the details.")
        except Exception:
            log.exception("a trigger failed")
            reply = replies.UNEXPECTED
        await reply.send(send)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        method = scope.get("method")
        if method != "POST":
            return replies.OPTIONS if method == "OPTIONS" else replies.WRONG_METHOD
        headers = _combined(scope["headers"])
        refusal = await self._credentials.refusal(headers)
        if refusal is not None:
            return refusal
        content_type = headers.get(b"content-type", b"")
        if content_type != _JSON and content_type.partition(b";")[0].strip().lower() != _JSON:
            return replies.NOT_JSON
        try:
            body = await read_body(scope, receive, seconds=self._read_seconds)
        except TimeoutError:
            return replies.TOO_SLOW
        if body is None:
            return replies.TOO_LARGE
        try:
            job_id = parse_trigger(body).job_id
        except MalformedTrigger as error:
            log.warning("Received trigger, malformed: %s", error.detail)
            return replies.problem(ProblemType.MALFORMED_REQUEST, error.detail)
        if self._draining.begun:
            return replies.DRAINING
        if self.service is None:
            return replies.NO_DATABASE_URL
        return await self._process(self.service, job_id, headers)

    async def _process(self, service: Service, job_id: UUID, headers: dict[bytes, bytes]) -> Reply:
        traceparent = headers.get(b"traceparent")
        trace = None if traceparent is None else traces.parse(traceparent.decode("latin-1"))
        if log.isEnabledFor(logging.INFO):
            log.info("Received trigger", extra=_described(job_id, trace, headers))
        found = await self._claim(service, job_id, trace)
        if not isinstance(found, Run):
            return found
        prefer = headers.get(b"prefer")
        wait = None if prefer is None else parse_prefer_wait(prefer.decode("latin-1"))
        if wait is None:
            return replies.claimed(job_id)
        wait = min(wait, self._wait_max)
        return (await self._wait(service, found, wait)).applying(wait)

    async def _claim(self, service: Service, job_id: UUID, trace: str | None) -> Run | Reply:
        for _ in range(_TRIES):
            if service.registry.at_work(job_id) is not None:
                return await self._at_work(service, job_id)
            if not await service.slots.reserve():
                return replies.full(job_id, service.slots.total)
            found = await service.claims.claim(job_id, trace)
            if isinstance(found, Run):
                return found
            reply = replies.from_state(job_id, found, service.handlers)
            if reply is not None:
                return reply
        return replies.busy(job_id, f"The job is queued and due, but its claim found no row {_TRIES} times.")

    async def _at_work(self, service: Service, job_id: UUID) -> Reply:
        """The answer while this process is at work on the job, with or without its lease: never a claim."""
        state: JobState | None = await service.claims.state(job_id)
        reply = replies.from_state(job_id, state, service.handlers)
        return reply or replies.busy(
            job_id, "An earlier attempt at the job has lost its lease, and its handler is still at work here."
        )

    async def _wait(self, service: Service, run: Run, seconds: int) -> Reply:
        """200 when the job is settled, 202 after so many seconds, and at once when the worker is to shut down."""
        job_id = run.lease.id
        done = await _first(run.task, self._draining.started, seconds)
        if not done:
            return replies.claimed(job_id)
        outcome = run.task.result()
        if outcome.state is not None:
            return replies.accepted(job_id, outcome.state, outcome.message, duplicate=False)
        if outcome is UNRECORDED:
            return replies.UNRECORDED
        state = await service.claims.state(job_id)
        return replies.from_state(job_id, state, service.handlers) or replies.busy(job_id, outcome.message)


async def _first(task: asyncio.Task[object], stop: asyncio.Event, seconds: float) -> bool:
    """Whether the task is done within so many seconds, or before the event."""
    if not task.done() and seconds > 0:
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({task, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
    return task.done()


def _described(job_id: UUID, trace: str | None, headers: dict[bytes, bytes]) -> dict[str, object]:
    """A trigger, for the log."""
    fields: dict[str, object] = {"job_id": job_id}
    if trace:
        fields["traceparent"] = trace
    for header, name in _CLOUD_TASKS:
        value = headers.get(header)
        if value is not None:
            fields[name] = printable(value.decode("latin-1"))
    return fields


def _combined(lines: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers by name; one that was sent several times holds all its values (RFC 9110 §5.3).

    So none of several secrets or media types is believed: whichever a proxy looked at, all of them together are neither.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in lines:
        headers[name] = b", ".join((headers[name], value)) if name in headers else value
    return headers
