"""The messages of the protocol: the trigger, the answer, and the two health documents.

Names on the wire are camelCase. Unknown members are ignored in both directions, so that either side may be
released first.
"""

import re
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

MAX_TRIGGER_BYTES: Final = 64 * 1024
"""The largest body a worker reads; a longer one is answered 413. A trigger of ours has 70 bytes."""

MAX_HEADER_BYTES: Final = 32 * 1024
"""The most header lines a worker reads, in bytes; more are answered 431."""

MAX_REQUEST_SECONDS: Final = 20
"""How long a request may take to arrive as a whole; a slower one is answered 408."""

MAX_UPLOAD_SECONDS: Final = 600
"""The same for a role that takes uploads; the head has `MAX_REQUEST_SECONDS` there too."""

JSON: Final = "application/json"
"""The media type of a trigger and of an answer."""

TRIGGER_TYPE: Final = "START_RUN"
"""What `type` says when a trigger leaves it out."""

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]

Authentication = Literal["none", "secret", "oidc", "secret+oidc", "secret|oidc"]
"""What lets a trigger in: nothing is asked for, one thing, both of them, or either of them."""

_SHAPE: Final = '{"jobId": "<uuid>"}'
_HOW_TO_MAKE_A_JOB: Final = (
    "Job ids are UUIDs, and the job must exist before it is triggered: "
    "`outboxkit enqueue KIND '{…}'` prints one, or `select outboxkit.enqueue_job(…)`."
)
_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"
)
_QUOTED_CHARACTERS: Final = 60


class Trigger(msgspec.Struct, frozen=True, rename="camel"):
    """Run the job with this id. Everything else about it stands in Postgres."""

    job_id: UUID
    type: str = TRIGGER_TYPE


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What a worker says once a trigger needs no second delivery.

    `accepted` is always true in an answer of ours. `duplicate` is true when this trigger did not start the
    attempt: the job was already running or settled.
    """

    job_id: UUID
    accepted: bool
    state: JobState
    duplicate: bool
    message: str

    def encode(self) -> bytes:
        """The answer as JSON in UTF-8."""
        return _ENCODER.encode(self)


class Health(msgspec.Struct, frozen=True, rename="camel"):
    """What `/health` and `/` say while the process is alive. `uptime` is in seconds, `timestamp` in UTC."""

    status: Literal["ok"]
    service: str
    uptime: float
    timestamp: datetime

    def encode(self) -> bytes:
        """The document as JSON in UTF-8."""
        return _ENCODER.encode(self)


class Readiness(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `/health/ready` says: with status 200 when `status` is `ready`, else with 503.

    `mode` is the effective trigger mode; `mode_configured` is false when a mode is set whose variables are
    missing (the effective mode is then `db`). `problems` says in words what keeps the process from being ready.
    """

    status: Literal["ready", "not-ready"]
    service: str
    database: Literal["up", "down"]
    migrations: Literal["current", "behind", "unknown"]
    mode: Literal["db", "http", "cloud-tasks", "none"]
    mode_configured: bool
    authentication: Authentication
    problems: list[str] = []

    def encode(self) -> bytes:
        """The document as JSON in UTF-8."""
        return _ENCODER.encode(self)


class WorkerReadiness(Readiness, frozen=True, kw_only=True, rename="camel"):
    """A worker's: one that checks bearer tokens says whether it has the issuer's keys."""

    signing_keys: Literal["fresh", "stale", "none"] | msgspec.UnsetType = msgspec.UNSET


class MalformedTrigger(ValueError):  # noqa: N818  names the message, as every other exception of the kit does
    """The body is not a trigger. `detail` says what is wrong and what to do, fit for a problem document."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class _LooseTrigger(msgspec.Struct, rename="camel"):
    """A trigger whose members may hold anything: read only to say what is wrong with them."""

    job_id: Any = msgspec.UNSET
    type: Any = msgspec.UNSET


_ENCODER: Final = msgspec.json.Encoder()
_TRIGGERS: Final = msgspec.json.Decoder(Trigger)
_LOOSE_TRIGGERS: Final = msgspec.json.Decoder(_LooseTrigger)
_ANSWERS: Final = msgspec.json.Decoder(Answer)


def encode_trigger(job_id: UUID, trigger_type: str = TRIGGER_TYPE) -> bytes:
    """The body of `POST /process-job` for this job, as JSON in UTF-8."""
    return _ENCODER.encode(Trigger(job_id, trigger_type))


def parse_trigger(body: bytes) -> Trigger:
    """Read the body of `POST /process-job`.

    Raises `MalformedTrigger`, and nothing else whatever the bytes are. A trigger that is read holds no NUL
    and no lone surrogate, so that it can be logged and stored as it is.
    """
    try:
        if not body.isascii():
            body.decode()  # msgspec passes over unknown members without looking at their bytes
        trigger = _TRIGGERS.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
        raise MalformedTrigger(_diagnose(body)) from None
    if "\0" in trigger.type:
        raise MalformedTrigger("`type` holds a NUL character, which no text in Postgres can.")
    return trigger


def parse_answer(body: bytes) -> Answer | None:
    """Read the body of a 200 or 202; None, and no exception, when it is not an `Answer`."""
    try:
        return _ANSWERS.decode(body)
    except (ValueError, RecursionError):
        return None


def _diagnose(body: bytes) -> str:
    """What is wrong with a body that is no trigger, in words for the person who sent it."""
    if not body.strip():
        return f"The body is empty; it must be a JSON object such as {_SHAPE}."
    try:
        body.decode()
        return _diagnose_members(_LOOSE_TRIGGERS.decode(body))
    except UnicodeDecodeError as error:
        return f"The body is not UTF-8: {error.reason} at byte {error.start}."
    except RecursionError:
        return f"The body is nested too deeply; it must be a JSON object such as {_SHAPE}."
    except msgspec.ValidationError as error:
        return f"The body must be a JSON object such as {_SHAPE}: {error}."
    except ValueError as error:
        return _diagnose_syntax(body, error)


def _diagnose_syntax(body: bytes, error: ValueError) -> str:
    surrogate = _LONE_SURROGATE.search(body)
    if surrogate:
        return f"The body is not valid JSON: half a surrogate pair stands alone at byte {surrogate.start()}."
    return f"The body is not valid JSON: {error}. It must be an object such as {_SHAPE}."


def _diagnose_members(loose: _LooseTrigger) -> str:
    if loose.job_id is msgspec.UNSET:
        return f"`jobId` is missing: the body must be a JSON object such as {_SHAPE}. {_HOW_TO_MAKE_A_JOB}"
    if not isinstance(loose.job_id, str):
        return f"`jobId` must be a string that holds a UUID, not {_json_type(loose.job_id)}."
    if not _is_uuid(loose.job_id):
        return f"`jobId` {_quote(loose.job_id)} is not a UUID. {_HOW_TO_MAKE_A_JOB}"
    return f"`type` must be a string, not {_json_type(loose.type)}; it may also be left out."


def _is_uuid(text: str) -> bool:
    try:
        msgspec.convert(text, UUID)
    except msgspec.ValidationError:
        return False
    return True


def _quote(text: str) -> str:
    """The text as a JSON string, cut short, with what does not print escaped."""
    cut = text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…"
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut) + '"'


def _json_type(value: object) -> str:
    names = {bool: "a boolean", dict: "an object", list: "an array", type(None): "null", str: "a string"}
    return names.get(type(value), "a number")
