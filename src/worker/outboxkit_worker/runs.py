"""One run: one attempt at one job in this process."""

from __future__ import annotations

import asyncio
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from outboxkit.handlers import Handler
from outboxkit.job import Progress
from outboxkit.leases import Lease
from outboxkit_contracts.messages import JobState
from outboxkit_worker.session import JobSession, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession


class Stop(Enum):
    """Why a run is ended before its handler is."""

    CANCELLED = "somebody asked for the job to be cancelled"
    LOST = "the lease was lost"
    SHUTDOWN = "the worker is shutting down"


class Outcome(msgspec.Struct, frozen=True):
    """What was recorded for an attempt: the state the job is in now, or None with the reason why nothing was recorded."""

    state: JobState | None
    message: str


LOST = Outcome(None, "The lease was lost; another worker has the job.")
UNRECORDED = Outcome(None, "The outcome could not be recorded; the lease will expire and the job will be run again.")


class Run:
    """What the worker knows of an attempt, and what its handler sees of the worker (`outboxkit.job.Attempt`)."""

    __slots__ = (
        "_on_progress",
        "_sessions",
        "deadline",
        "handler",
        "handling",
        "lease",
        "opened",
        "progress",
        "saw_cancel",
        "started",
        "stop",
        "stored_progress",
        "task",
        "thread",
        "traceparent",
    )

    def __init__(
        self,
        lease: Lease,
        handler: Handler,
        *,
        traceparent: str | None,
        sessions: Sessions,
        on_progress: Callable[[], None],
    ) -> None:
        """`on_progress` is called, in any thread, when there is progress to store."""
        self.lease = lease
        self.handler = handler
        self.traceparent = traceparent
        self.started = monotonic()
        self.deadline = self.started + handler.timeout
        """Monotonic time past which the lease is no longer extended."""
        self.handling = True
        """Whether the handler is still going on (recording its outcome comes after)."""
        self.stop: Stop | None = None
        self.saw_cancel = False
        self.progress: Progress | None = None
        self.stored_progress: Progress | None = None
        self.opened: JobSession | None = None
        self.thread: asyncio.Future[Any] | None = None
        self.task: asyncio.Task[Outcome]
        self._sessions = sessions
        self._on_progress = on_progress

    @property
    def at_work(self) -> bool:
        """Whether the handler's code may be running: also true of a thread that nobody waits for any more."""
        return self.handling or (self.thread is not None and not self.thread.done())

    @property
    def session(self) -> AsyncSession:
        """The session that commits with the completion; made at first use."""
        if not self.handler.is_async:
            raise RuntimeError(
                f"{self.lease.kind}: job.session and job.enqueue belong to the event loop; "
                "make the handler an `async def` to use them"
            )
        if self.opened is None:
            self.opened = self._sessions.open(self.lease)
        return self.opened

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the job to be cancelled."""
        if self.stop is Stop.CANCELLED:
            self.saw_cancel = True
        return self.saw_cancel

    def report(self, progress: Progress) -> None:
        """Take note of the progress."""
        self.progress = progress
        self._on_progress()

    def end_early(self, why: Stop) -> None:
        """Cancel the handler, unless it is over; the last reason given is the one that counts.

        A plain `def` in its thread is not interrupted, except that `job.cancelled` becomes true: for any other reason the
        run goes on without it.
        """
        if not self.handling or self.stop is why:
            return
        self.stop = why
        if self.handler.is_async or why is not Stop.CANCELLED:
            self.task.cancel(why.value)
