"""What enqueue refuses before anything is sent."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from outboxkit import NewJob, enqueue, enqueue_many

REFUSED = [
    ({"kind": ""}, ValueError, "kind has 0 characters; wanted 1 to 200"),
    ({"kind": "k" * 201}, ValueError, "kind has 201 characters"),
    ({"kind": None}, TypeError, "kind is a NoneType; wanted a string"),
    ({"kind": b"K"}, TypeError, "kind is a bytes; wanted a string"),
    ({"kind": "a\x00"}, ValueError, "kind: holds a NUL character"),
    ({"kind": "\ud800"}, ValueError, "kind: holds a lone surrogate"),
    ({"queue": ""}, ValueError, "queue has 0 characters"),
    ({"queue": "q" * 101}, ValueError, "queue has 101 characters; wanted 1 to 100"),
    ({"queue": None}, TypeError, "queue is a NoneType"),
    ({"unique_key": ""}, ValueError, "unique_key has 0 characters"),
    ({"unique_key": "k" * 501}, ValueError, "unique_key has 501 characters; wanted 1 to 500"),
    ({"unique_key": 7}, TypeError, "unique_key is a int; wanted a string"),
    ({"unique_key": "\udfff"}, ValueError, "unique_key: holds a lone surrogate"),
    ({"max_attempts": 0}, ValueError, "max_attempts is 0; wanted 1 to 1000000"),
    ({"max_attempts": 2**31}, ValueError, "max_attempts is 2147483648"),
    ({"max_attempts": 2.5}, TypeError, "max_attempts is a float; wanted a whole number"),
    ({"max_attempts": "3"}, TypeError, "max_attempts is a str"),
    ({"max_attempts": True}, TypeError, "max_attempts is a bool"),
    ({"run_at": datetime(2026, 1, 1)}, ValueError, "run_at has no timezone; for example"),  # noqa: DTZ001 (that is the point)
    ({"run_at": "2026-01-01"}, TypeError, "run_at is a str; wanted a datetime with a timezone"),
    ({"run_at": timedelta(minutes=5)}, TypeError, "run_at is a timedelta"),
    ({"run_at": datetime.min.replace(tzinfo=UTC)}, ValueError, "run_at is 0001-01-01"),
    ({"run_at": datetime.max.replace(tzinfo=UTC)}, ValueError, "run_at is 9999-12-31"),
    ({"payload": [1]}, TypeError, "payload is a list"),
    ({"payload": {"a": float("nan")}}, TypeError, "payload.a: nan has no JSON form"),
]


@pytest.mark.parametrize(("given", "error", "complaint"), REFUSED)
def test_refused(given: dict[str, Any], error: type[Exception], complaint: str) -> None:
    """A wrong argument is named, and the session is not touched: it has not even connected."""
    arguments = {"kind": "K", **given}
    session = Session(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    with pytest.raises(error) as refused:
        enqueue(session, **arguments)
    assert str(refused.value).startswith(complaint)
    with pytest.raises(error) as refused:
        enqueue_many(session, [NewJob("K"), NewJob(**arguments)])
    assert str(refused.value).startswith(complaint)
    assert not session.in_transaction()
