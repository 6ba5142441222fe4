"""RFC 9457 problem documents: the only shape in which the kit reports an error over HTTP."""

import enum
import json
from typing import Final, Self
from uuid import UUID

import msgspec

from outboxkit_contracts.headers import names

PROBLEM_JSON: Final = "application/problem+json"
"""The media type of every problem document."""

_URI_PREFIX: Final = "urn:outboxkit:problem:"


class ProblemType(enum.Enum):
    """Every kind of problem the kit reports: its slug, the one HTTP status it goes with, and its title."""

    MALFORMED_REQUEST = ("malformed-request", 400, "The request cannot be understood")
    MALFORMED_HTTP = ("malformed-http", 400, "The request is not proper HTTP")
    UNAUTHORIZED = ("unauthorized", 401, "Credentials are missing or not valid")
    FORBIDDEN = ("forbidden", 403, "These credentials do not allow this")
    UNKNOWN_JOB = ("unknown-job", 404, "There is no job with this id")
    NOT_FOUND = ("not-found", 404, "There is nothing at this address")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "This address does not answer this method")
    REQUEST_TIMEOUT = ("request-timeout", 408, "The request did not arrive in time")
    NOT_DUE = ("not-due", 409, "The job is not due yet")
    CONFLICT = ("conflict", 409, "The request conflicts with the present state")
    PAYLOAD_TOO_LARGE = ("payload-too-large", 413, "The body is too large")
    UNSUPPORTED_MEDIA_TYPE = ("unsupported-media-type", 415, "The body's media type is not supported")
    UNKNOWN_KIND = ("unknown-kind", 422, "This worker has no handler for the job's kind")
    INVALID_INPUT = ("invalid-input", 422, "The input is not valid")
    IDEMPOTENCY_MISMATCH = ("idempotency-mismatch", 422, "The idempotency key was used with another request")
    WORKER_FULL = ("worker-full", 429, "The worker is full")
    HEADERS_TOO_LARGE = ("headers-too-large", 431, "The header lines are too large")
    INTERNAL_ERROR = ("internal-error", 500, "The outcome was not recorded")
    DRAINING = ("draining", 503, "The process is shutting down")
    NO_DATABASE = ("no-database", 503, "The database cannot be reached")
    CREDENTIALS_UNVERIFIABLE = ("credentials-unverifiable", 503, "The credentials cannot be checked just now")
    BUSY = ("busy", 503, "The job could not be claimed just now")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title
        self.uri = _URI_PREFIX + slug

    @classmethod
    def of(cls, uri: str) -> "ProblemType | None":
        """The type with this URI, or None when it is none of ours."""
        return _BY_URI.get(uri)


_BY_URI: Final = {member.uri: member for member in ProblemType}


class Flaw(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One thing wrong with an input, and where: a JSON pointer, or a row (the first is 1) and a column."""

    detail: str
    pointer: str | None = None
    row: int | None = None
    column: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One problem document; members that do not apply are left out of the JSON."""

    type: str
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    job_id: UUID | None = None
    state: str | None = None
    kind: str | None = None
    retry_after: int | None = None
    errors: tuple[Flaw, ...] = ()

    @classmethod
    def of(
        cls,
        problem_type: ProblemType,
        detail: str,
        *,
        instance: str | None = None,
        job_id: UUID | None = None,
        state: str | None = None,
        kind: str | None = None,
        retry_after: int | None = None,
        errors: tuple[Flaw, ...] = (),
    ) -> Self:
        """A problem of a known type. `detail` says what happened and what to do; it must hold no secret.

        `retry_after` is in seconds and goes into the document only: the header is the caller's to send.
        """
        return cls(
            type=problem_type.uri,
            title=problem_type.title,
            status=problem_type.status,
            detail=detail,
            instance=instance,
            job_id=job_id,
            state=state,
            kind=kind,
            retry_after=retry_after,
            errors=errors,
        )

    def encode(self) -> bytes:
        """The document as JSON in UTF-8; a lone surrogate in a text, which has no UTF-8, becomes `?`."""
        try:
            return _ENCODER.encode(self)
        except UnicodeEncodeError:
            return json.dumps(msgspec.to_builtins(self), ensure_ascii=False).encode("utf-8", "replace")


_ENCODER: Final = msgspec.json.Encoder()
_PROBLEMS: Final = msgspec.json.Decoder(Problem)


def parse_problem(body: bytes) -> Problem | None:
    """Read a problem document of ours; None, and no exception, when the body is not one."""
    try:
        return _PROBLEMS.decode(body)
    except (ValueError, RecursionError):
        return None


def is_problem_json(content_type: str | None) -> bool:
    """Whether a Content-Type header names problem+json, whatever its case and parameters."""
    return names(content_type, PROBLEM_JSON)
