"""What a relay does about each answer of a worker: the relay's column of the protocol's table.

`openapi/process-job.yaml` says the same in `x-relay-action`, and a test holds the two together. An answer
that does not match the document is not taken for a worker's: a proxy, a login page or another service must
neither acknowledge a job nor bury it.
"""

import enum
from typing import Final
from uuid import UUID

import msgspec

from outboxkit_contracts.headers import names, parse_retry_after
from outboxkit_contracts.messages import JSON, parse_answer
from outboxkit_contracts.problems import ProblemType, is_problem_json

_MESSAGE_CHARACTERS: Final = 500


class Action(enum.StrEnum):
    """What becomes of the outbox row, and of the endpoint's standing."""

    ACK = "ack"
    """Delivered: delete the row."""

    DEAD_LETTER = "dead-letter"
    """This message can never work. `unknown-job` is checked against the jobs table before it is believed."""

    RETRY = "retry"
    """A failure that counts: try again with backoff, and dead-letter the row when its attempts run out."""

    RETRY_THEN = "retry-then"
    """Too early, and nobody's failure: try again at Retry-After, with backoff when there is none.

    No attempt is counted: Retry-After is capped, so a job scheduled days ahead would use all of them up.
    """

    SLOW_DOWN = "slow-down"
    """As `RETRY_THEN`, uncounted too, and send this endpoint fewer requests at once."""

    ENDPOINT_FAULT = "endpoint-fault"
    """The endpoint is broken, not the message: feed its breaker, keep the row, not before Retry-After."""


class Verdict(msgspec.Struct, frozen=True):
    """What to do about one delivery.

    `reason` says in a few words why, and holds nothing that came from outside but a media type. `problem` is
    the slug of a problem that was believed. `retry_after` is in seconds, already capped; None with `ACK` and
    `DEAD_LETTER`. `message` is the worker's own text, without NUL, cut to 500 characters, and empty unless
    the answer is our worker's: a stranger may echo the secret it was sent.
    """

    action: Action
    reason: str
    problem: str | None = None
    retry_after: int | None = None
    message: str = ""


class _Head(msgspec.Struct, rename="camel"):
    """The members of a problem document that decide; the others may hold anything (RFC 9457 §3.1).

    A document without what every one of ours has, or about another job, is a stranger's: a message is not buried for it.
    """

    type: str
    title: str
    status: int
    detail: str
    job_id: UUID | None = None


_HEADS: Final = msgspec.json.Decoder(_Head)

PROBLEM_ACTIONS: Final = {
    ProblemType.MALFORMED_REQUEST: Action.DEAD_LETTER,
    ProblemType.UNKNOWN_JOB: Action.DEAD_LETTER,
    ProblemType.NOT_DUE: Action.RETRY_THEN,
    ProblemType.PAYLOAD_TOO_LARGE: Action.DEAD_LETTER,
    ProblemType.UNSUPPORTED_MEDIA_TYPE: Action.DEAD_LETTER,
    ProblemType.UNKNOWN_KIND: Action.RETRY,
    ProblemType.WORKER_FULL: Action.SLOW_DOWN,
    ProblemType.INTERNAL_ERROR: Action.RETRY,
}
"""The problems that are about the message. Every other one, known or not, is an endpoint fault."""


def classify(
    status: int,
    content_type: str | None,
    body: bytes,
    retry_after: str | None,
    *,
    job_id: UUID,
    now: float | None = None,
) -> Verdict:
    """Judge the answer to the trigger for `job_id`; never raises, whatever the answer is.

    `content_type` and `retry_after` are header values. `now` (seconds since 1970) is what a Retry-After that
    holds a date is measured from; by default this process's clock, which is read only then.
    """
    if status in (200, 202):
        return _judge_answer(status, content_type, body, job_id, retry_after, now)
    wait = parse_retry_after(retry_after, now=now)
    head = _read_head(body) if is_problem_json(content_type) else None
    problem = ProblemType.of(head.type) if head else None
    if head is None or problem is None or not problem.status == head.status == status:
        return Verdict(Action.ENDPOINT_FAULT, _stranger(status, content_type), retry_after=wait)
    if head.job_id not in (None, job_id):
        return Verdict(Action.ENDPOINT_FAULT, f"HTTP {status}, but the problem is about another job", retry_after=wait)
    action = PROBLEM_ACTIONS.get(problem, Action.ENDPOINT_FAULT)
    return Verdict(
        action,
        f"HTTP {status} {problem.slug}",
        problem.slug,
        None if action is Action.DEAD_LETTER else wait,
        _clean(head.detail),
    )


def no_answer(reason: str) -> Verdict:
    """The verdict when no answer came: refused, timed out, cut off. `reason` says which."""
    return Verdict(Action.ENDPOINT_FAULT, reason)


def _judge_answer(
    status: int, content_type: str | None, body: bytes, job_id: UUID, retry_after: str | None, now: float | None
) -> Verdict:
    if not names(content_type, JSON):
        wait = parse_retry_after(retry_after, now=now)
        return Verdict(Action.ENDPOINT_FAULT, _stranger(status, content_type), retry_after=wait)
    answer = parse_answer(body)
    if answer is not None and answer.accepted and answer.job_id == job_id:
        return Verdict(Action.ACK, "accepted", message=_clean(answer.message))
    if answer is None:
        reason = f"HTTP {status}, but the body is not a worker's answer"
    elif answer.job_id != job_id:
        reason = f"HTTP {status}, but the answer is about another job"
    else:
        reason = f"HTTP {status}, but the answer does not accept the job"
    return Verdict(Action.ENDPOINT_FAULT, reason, retry_after=parse_retry_after(retry_after, now=now))


def _read_head(body: bytes) -> _Head | None:
    try:
        return _HEADS.decode(body)
    except (ValueError, RecursionError):
        return None


def _stranger(status: int, content_type: str | None) -> str:
    """Why an answer that is not our worker's was not believed, and where to look."""
    if status in (401, 403):
        return f"HTTP {status} without a problem of ours: credentials refused on the way to the worker"
    if 300 <= status < 400:
        return f"HTTP {status}: redirects are not followed; WORKER_TRIGGER_URL must be the final address"
    kind = _clean(content_type or "")[:60]
    return f"HTTP {status} ({kind or 'no content type'}) is no answer of the worker protocol"


def _clean(text: str) -> str:
    """Text from outside, fit to be stored and logged on one line."""
    cut = text[:_MESSAGE_CHARACTERS]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else " " for c in cut)
