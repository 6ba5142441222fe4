"""What a handler is given: progress that can always be stored."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from outboxkit import Job
from outboxkit.job import Progress


class Attempt:
    """Remembers what was reported."""

    cancelled = False

    def __init__(self) -> None:
        self.reported: list[Progress] = []

    @property
    def session(self) -> Any:
        """Nobody asks for it here."""
        raise NotImplementedError

    def report(self, progress: Progress) -> None:
        """Remember it."""
        self.reported.append(progress)


@pytest.fixture
def attempt() -> Attempt:
    """What the job reports to."""
    return Attempt()


@pytest.fixture
def job(attempt: Attempt) -> Job:
    """A job that runs."""
    return Job(
        id=UUID(int=1),
        kind="K",
        queue="default",
        attempt=1,
        max_attempts=3,
        created_at=datetime.now(UTC),
        traceparent=None,
        app=None,
        _attempt=attempt,
    )


def test_progress(job: Job, attempt: Attempt) -> None:
    """Progress is reported as it was given."""
    job.progress(3, 4, "three of four")
    job.progress(0.5)
    assert attempt.reported == [Progress(3, 4, "three of four"), Progress(0.5, 1.0, "")]


@pytest.mark.parametrize("note", ["a\x00b", "lone \ud800", "x" * 1000, 7, None])
def test_a_note_that_cannot_be_stored(job: Job, attempt: Attempt, note: Any) -> None:
    """A note is made storable: it travels with the heartbeats of every job of the process."""
    job.progress(1, 2, note)
    text = msgspec.json.encode(attempt.reported[0]).decode()
    assert "\\u0000" not in text
    assert len(attempt.reported[0].note) <= 200


@pytest.mark.parametrize(
    ("number", "error"),
    [(float("nan"), ValueError), (float("inf"), ValueError), ("half", TypeError), (None, TypeError)],
)
def test_a_number_that_is_none(job: Job, attempt: Attempt, number: Any, error: type[Exception]) -> None:
    """A number that is none is the handler's error at once, and nobody else's later."""
    for arguments in ((number, 1), (1, number)):
        with pytest.raises(error):
            job.progress(*arguments)
    assert attempt.reported == []


def test_numbers_of_other_types(job: Job, attempt: Attempt) -> None:
    """Any kind of number is stored as a plain one."""
    job.progress(Decimal("1.5"), True)  # type: ignore[arg-type]  # a number all the same
    assert msgspec.json.encode(attempt.reported[0]) == b'{"done":1.5,"total":1.0,"note":""}'
