"""The answers of POST /process-job, as openapi/process-job.yaml has them."""

from __future__ import annotations

import math
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar.types import Send

from outboxkit.handlers import Handlers
from outboxkit.leases import EARLY, JobState
from outboxkit_contracts.messages import MAX_REQUEST_SECONDS, MAX_TRIGGER_BYTES, Answer
from outboxkit_contracts.problems import PROBLEM_JSON, Problem, ProblemType

PATH: Final = "/process-job"

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", PROBLEM_JSON.encode())

# Seconds, for Retry-After.
_SOON: Final = 1
_LATER: Final = 5


class Reply(msgspec.Struct, frozen=True):
    """A whole response."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    async def send(self, send: Send) -> None:
        """Send it, in two ASGI messages."""
        length = (b"content-length", str(len(self.body)).encode())
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, length]})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    def applying(self, wait: int | None) -> Reply:
        """With the header that says how long the worker would have waited; None: it was not asked to."""
        if wait is None:
            return self
        applied = (b"preference-applied", b"wait=%d" % wait)
        return Reply(self.status, self.body, (*self.headers, applied))


def accepted(job_id: UUID, state: Any, message: str, *, duplicate: bool) -> Reply:
    """200 when the job is settled (or its retry recorded), 202 while it is running."""
    body = Answer(job_id, True, state, duplicate, message).encode()
    return Reply(202 if state == "running" else 200, body, (_JSON,))


def claimed(job_id: UUID) -> Reply:
    """202: the job is running here, because of this trigger."""
    return accepted(job_id, "running", "Claimed.", duplicate=False)


def from_state(job_id: UUID, found: JobState | None, handlers: Handlers) -> Reply | None:
    """The answer to a trigger that got no lease, from the job's state read afresh.

    None when the job is queued, due and known (†): then it must be claimed again, and never acknowledged.
    """
    if found is None:
        return problem(ProblemType.UNKNOWN_JOB, f"This worker's database holds no job {job_id}.", job_id=job_id)
    if found.state == "running":
        return accepted(job_id, "running", "The job is already running.", duplicate=True)
    if found.state != "queued":
        return accepted(job_id, found.state, "The job is already settled.", duplicate=True)
    if found.due_in > EARLY.total_seconds():
        wait = math.ceil(found.due_in)
        return problem(
            ProblemType.NOT_DUE, f"The job is due in {wait} s.", job_id=job_id, state="queued", retry_after=wait
        )
    if handlers.get(found.kind) is None:
        known = " and ".join(filter(None, [", ".join(handlers.kinds()[:-1]), *handlers.kinds()[-1:]])) or "no kind"
        return problem(
            ProblemType.UNKNOWN_KIND,
            f"No handler is registered for {found.kind}; this worker knows {known}.",
            job_id=job_id,
            kind=found.kind,
        )
    return None


def full(job_id: UUID, slots: int) -> Reply:
    """429: no slot is free."""
    detail = f"All {slots} slots are taken (WORKER_CONCURRENCY)."
    return problem(ProblemType.WORKER_FULL, detail, job_id=job_id, retry_after=_SOON)


def busy(job_id: UUID, detail: str) -> Reply:
    """503: the job is queued and due, and could not be claimed all the same."""
    return problem(ProblemType.BUSY, detail, job_id=job_id, state="queued", retry_after=_SOON)


def no_database(detail: str) -> Reply:
    """503: nothing is known about the job."""
    return problem(ProblemType.NO_DATABASE, detail, retry_after=_LATER)


def unauthorized(detail: str, *, invalid: str | None = None) -> Reply:
    """401 with the challenge of RFC 6750 §3; `invalid` says what is wrong with a token, None: there was none.

    `invalid` is ASCII without quotes and backslashes.
    """
    challenge = 'Bearer realm="outboxkit"'
    if invalid is not None:
        challenge += f', error="invalid_token", error_description="{invalid}"'
    return problem(ProblemType.UNAUTHORIZED, detail, headers=((b"www-authenticate", challenge.encode()),))


def unverifiable(retry_after: int) -> Reply:
    """503: nobody can say whether the token is valid."""
    detail = "The keys of WORKER_OIDC_ISSUER cannot be fetched; the worker's log has the details."
    return problem(ProblemType.CREDENTIALS_UNVERIFIABLE, detail, retry_after=retry_after)


def problem(
    problem_type: ProblemType,
    detail: str,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    job_id: UUID | None = None,
    state: str | None = None,
    kind: str | None = None,
    retry_after: int | None = None,
) -> Reply:
    """A problem document; `retry_after` (seconds) goes into the header too."""
    document = Problem.of(
        problem_type, detail, instance=PATH, job_id=job_id, state=state, kind=kind, retry_after=retry_after
    )
    if retry_after is not None:
        headers = (*headers, (b"retry-after", str(retry_after).encode()))
    return Reply(problem_type.status, document.encode(), (_PROBLEM, *headers))


DRAINING: Final = problem(
    ProblemType.DRAINING, "This worker is shutting down and takes no new jobs.", retry_after=_LATER
)
NO_DATABASE_URL: Final = no_database("This worker has no database: set DATABASE_URL.")
FORBIDDEN: Final = problem(
    ProblemType.FORBIDDEN, "The header x-worker-trigger does not hold this worker's WORKER_TRIGGER_SECRET."
)
NOT_JSON: Final = problem(
    ProblemType.UNSUPPORTED_MEDIA_TYPE, "Send the body with the header Content-Type: application/json."
)
TOO_LARGE: Final = problem(
    ProblemType.PAYLOAD_TOO_LARGE,
    f"The body has more than {MAX_TRIGGER_BYTES:,} bytes. A trigger carries a job's id; its data belongs in Postgres.",
)
TOO_SLOW: Final = problem(
    ProblemType.REQUEST_TIMEOUT,
    f"The body did not arrive as a whole within {MAX_REQUEST_SECONDS} seconds.",
    headers=((b"connection", b"close"),),  # the rest of the body would be taken for the next request
)
UNRECORDED: Final = problem(
    ProblemType.INTERNAL_ERROR,
    "The job was run, but its outcome could not be recorded; the worker's log has the details.",
)
UNEXPECTED: Final = problem(ProblemType.INTERNAL_ERROR, "An unexpected error; the worker's log has the details.")
_ALLOW: Final = (b"allow", b"OPTIONS, POST")
WRONG_METHOD: Final = problem(ProblemType.METHOD_NOT_ALLOWED, f"{PATH} answers POST.", headers=(_ALLOW,))
OPTIONS: Final = Reply(204, b"", (_ALLOW,))
