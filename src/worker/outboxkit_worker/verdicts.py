"""What the end of a handler means for its job."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any, Final

import msgspec
import psycopg

from outboxkit import payload as payloads
from outboxkit.clipping import describe
from outboxkit.database import RETRYABLE
from outboxkit.handlers import Fail, InvalidPayload, Retry

# Bytes of JSON. A result is for people and dashboards; data belongs in the application's own tables.
RESULT_LIMIT: Final = 64 * 1024

_NOW: Final = timedelta(0)
_LONGEST: Final = timedelta(days=365)


class Success(msgspec.Struct, frozen=True):
    """The handler returned; `result` as JSON text, None when it returned None."""

    result: str | None


class Failure(msgspec.Struct, frozen=True):
    """The attempt failed. `reason` is a word for dashboards, `error` the text for people."""

    reason: str
    error: str
    delay: timedelta = _NOW
    final: bool = False


class Backoff(msgspec.Struct, frozen=True):
    """Waits between the attempts at a job, in seconds: exponential, capped, with full jitter.

    The wait after attempt n is random between 0 and min(longest, first · 2ⁿ⁻¹). From
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. By 5 and 900: at most 5, 10, 20, 40 …
    """

    first: float
    longest: float

    def after(self, attempt: int) -> timedelta:
        """The wait after this attempt; the exponent is capped, because attempts that were given back count up too."""
        longest = min(self.longest, self.first * 2.0 ** min(attempt - 1, 30))
        return timedelta(seconds=random.uniform(0, longest))  # noqa: S311 (no secret)


def judge_result(result: object) -> Success | Failure:
    """What the value a handler returned is worth: one that cannot be stored fails the job, and trying again is no use."""
    if result is None:
        return Success(None)
    try:
        text = payloads.encode_value(result, name="result")
    except (TypeError, ValueError, RecursionError) as error:
        return Failure("unusable-result", f"what the handler returned has no JSON form: {error}", final=True)
    if len(text) > RESULT_LIMIT:
        return Failure(
            "unusable-result",
            f"what the handler returned is {len(text)} characters of JSON; at most {RESULT_LIMIT} are stored",
            final=True,
        )
    return Success(text)


def judge_error(error: BaseException, *, attempt: int, backoff: Backoff) -> Failure:
    """What an exception means: an instruction of the handler's (Retry, Fail), or a failure to try again after."""
    if isinstance(error, Retry):
        delay = backoff.after(attempt) if error.after is None else min(timedelta(seconds=error.after), _LONGEST)
        return Failure("retry-asked", error.reason, delay)
    if isinstance(error, Fail):
        return Failure("handler-failed", error.reason, final=True)
    if isinstance(error, InvalidPayload):
        return Failure("invalid-payload", str(error), final=True)
    if sqlstate(error) in RETRYABLE:
        # Postgres asks for the transaction to be run again, and nothing is gained by waiting.
        return Failure("conflict", describe(error), _NOW)
    return Failure("handler-error", describe(error), backoff.after(attempt))


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a database error, also of one that SQLAlchemy has wrapped; None when it has none."""
    original: Any = getattr(error, "orig", None) or error
    return original.sqlstate if isinstance(original, psycopg.Error) else None
