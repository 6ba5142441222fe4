"""What a handler is given beside its payload."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import msgspec

from outboxkit.clipping import clip
from outboxkit.enqueue import enqueue
from outboxkit.payload import Payload

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Progress(msgspec.Struct, frozen=True):
    """How far a job is, as it is stored and shown."""

    done: float
    total: float
    note: str = ""


class Attempt(Protocol):
    """What the process that runs a job does for it; the worker and `outboxkit.testing` each have one."""

    @property
    def session(self) -> AsyncSession:
        """The session that commits with the completion."""

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the job to be cancelled."""

    def report(self, progress: Progress) -> None:
        """Take note of the progress; stored with the next heartbeat."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The job a handler is running: one attempt at it."""

    id: UUID
    kind: str
    queue: str
    attempt: int
    """1 for the first; with the process that runs it, the fencing token. Never decreases."""
    max_attempts: int
    created_at: datetime
    traceparent: str | None
    app: Any
    """What the application's `lifespan` yielded."""
    _attempt: Attempt

    @property
    def session(self) -> AsyncSession:
        """A SQLAlchemy session whose transaction commits together with the job's completion: exactly once.

        Begins at first use. If the attempt fails, or another worker has taken the job over meanwhile, everything done
        through it is rolled back. It refuses commit(), and must not touch the job's own row.
        """
        return self._attempt.session

    @property
    def cancelled(self) -> bool:
        """True once cancellation was asked for (seen with a heartbeat); return early to honour it."""
        return self._attempt.cancelled

    async def enqueue(
        self,
        kind: str,
        payload: Payload = None,
        *,
        run_at: datetime | None = None,
        unique_key: str | None = None,
        max_attempts: int | None = None,
        queue: str = "default",
    ) -> UUID:
        """Enqueue another job in this one's transaction: it exists if and only if this attempt completes."""
        return await enqueue(
            self.session,
            kind,
            payload,
            run_at=run_at,
            unique_key=unique_key,
            max_attempts=max_attempts,
            queue=queue,
        )

    def progress(self, done: float, total: float = 1.0, note: str = "") -> None:
        """Report progress; also from a thread.

        Written with the next heartbeat, outside the job's transaction; lost if the process dies before. Raises ValueError
        or TypeError for what is no finite number.
        """
        # Made storable here, in the one job it is about: it travels with the heartbeats of all jobs of the process, and one
        # that Postgres refuses would cost every one of them its lease.
        self._attempt.report(Progress(_finite(done), _finite(total), clip(str(note), 200)))


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"progress of {number}; wanted a finite number")
    return float(number)
