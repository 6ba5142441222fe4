"""What the end of a handler means."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from outboxkit import Fail, Retry
from outboxkit.handlers import InvalidPayload
from outboxkit_worker.verdicts import RESULT_LIMIT, Backoff, Failure, Success, judge_error, judge_result

BACKOFF = Backoff(5.0, 900.0)


@given(first=st.floats(0, 3600), longest=st.floats(0, 86400), attempt=st.integers(1, 2**31))
def test_the_backoff_stays_within_its_bounds(first: float, longest: float, attempt: int) -> None:
    """Between nothing and min(longest, first · 2ⁿ⁻¹), for any attempt a job can reach."""
    delay = Backoff(first, longest).after(attempt).total_seconds()
    assert 0 <= delay <= min(longest, first * 2 ** min(attempt - 1, 30)) + 1e-6


def test_the_backoff_doubles_and_jitters() -> None:
    """The longest of many waits comes close to the bound, and no two are alike."""
    for attempt, bound in ((1, 5), (2, 10), (4, 40), (9, 900)):
        waits = [BACKOFF.after(attempt).total_seconds() for _ in range(400)]
        assert bound * 0.9 < max(waits) <= bound
        assert len(set(waits)) > 300


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Retry(after=30), Failure("retry-asked", "the handler asked for a retry", timedelta(seconds=30))),
        (Retry("closed", after=1e12), Failure("retry-asked", "closed", timedelta(days=365))),
        (Fail("no such order"), Failure("handler-failed", "no such order", final=True)),
        (InvalidPayload("X: no"), Failure("invalid-payload", "X: no", final=True)),
        (psycopg.errors.DeadlockDetected("x"), Failure("conflict", "DeadlockDetected: x")),
    ],
)
def test_instructions_and_conflicts(error: Exception, expected: Failure) -> None:
    """Retry and Fail do what they say; Postgres's own request to try again is followed at once."""
    assert judge_error(error, attempt=1, backoff=BACKOFF) == expected


def test_a_conflict_is_known_through_sqlalchemy_s_wrapping() -> None:
    """40001 is 40001 whoever raises it."""
    wrapped = DBAPIError("select 1", {}, psycopg.errors.SerializationFailure("x"))
    verdict = judge_error(wrapped, attempt=9, backoff=BACKOFF)
    assert (verdict.reason, verdict.delay) == ("conflict", timedelta(0))


def test_any_other_error_is_tried_again_after_the_backoff() -> None:
    """With its type and text for people."""
    delays = {judge_error(KeyError("a"), attempt=3, backoff=BACKOFF).delay for _ in range(50)}
    verdict = judge_error(KeyError("a"), attempt=3, backoff=BACKOFF)
    assert (verdict.reason, verdict.error, verdict.final) == ("handler-error", "KeyError: 'a'", False)
    assert len(delays) > 40
    assert max(delays) <= timedelta(seconds=20)


@pytest.mark.parametrize(("value", "text"), [(None, None), ({"a": [1]}, '{"a":[1]}'), ("ü", '"ü"'), (0, "0")])
def test_a_result_is_stored_as_json(value: Any, text: str | None) -> None:
    """None is no result."""
    assert judge_result(value) == Success(text)


@pytest.mark.parametrize("value", [object(), float("inf"), "a\0", {1: object()}, "x" * RESULT_LIMIT])
def test_a_result_that_cannot_be_stored_is_final(value: Any) -> None:
    """Running the job again would not change it."""
    verdict = judge_result(value)
    assert isinstance(verdict, Failure)
    assert (verdict.reason, verdict.final) == ("unusable-result", True)
