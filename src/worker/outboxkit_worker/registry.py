"""The runs there are in this process, and the ways to end them early."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from uuid import UUID

from outboxkit.logs import job_context
from outboxkit_worker.runs import Run, Stop

log = logging.getLogger(__name__)


class Registry:
    """Runs by job: at most one handler of this process is at work on a job."""

    def __init__(self) -> None:
        self._runs: dict[UUID, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> None:
        """Enter a run; one for the same job whose outcome is just being recorded makes way for it."""
        self._runs[run.lease.id] = run

    def remove(self, run: Run) -> None:
        """Take out a run that is over, unless another has its place."""
        if self._runs.get(run.lease.id) is run:
            del self._runs[run.lease.id]

    def at_work(self, job_id: UUID) -> Run | None:
        """The run whose handler is at work on this job, with or without its lease."""
        run = self._runs.get(job_id)
        return run if run is not None and run.at_work else None

    def snapshot(self) -> Sequence[Run]:
        """The runs there are; may be called from any thread."""
        return tuple(self._runs.copy().values())

    def stale(self) -> list[UUID]:
        """Jobs not to be claimed here: their old handler goes on though its lease is lost, or no longer extended."""
        now = monotonic()
        return [
            job
            for job, run in self._runs.items()
            if run.at_work and (run.stop is Stop.LOST or now > run.deadline or not run.handling)
        ]

    def end_early(self, job_id: UUID, attempt: int, why: Stop) -> None:
        """Cancel the handler of this very attempt, if it is still going on."""
        run = self._runs.get(job_id)
        if run is None or run.lease.attempt != attempt or not run.handling or run.stop is why:
            return
        with job_context(job_id=job_id, attempt=attempt, traceparent=run.traceparent):
            log.warning("stopping the handler: %s", why.value)
        run.end_early(why)

    async def finish(self, grace: Callable[[], float], hurry: asyncio.Event) -> None:
        """Returns when every run is over, or the grace is (`grace` tells the seconds that are left), or at `hurry`."""
        hurrying = asyncio.create_task(hurry.wait())
        try:
            while (tasks := self._tasks()) and (left := grace()) > 0 and not hurrying.done():
                await asyncio.wait({*tasks, hurrying}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurrying.cancel()

    async def end_all(self, *, within: float) -> list[Run]:
        """End every run for a shutdown; returns those whose handlers are still going on after so many seconds."""
        for run in self._runs.values():
            if run.handling:
                self.end_early(run.lease.id, run.lease.attempt, Stop.SHUTDOWN)
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=within)
        return [run for run in self._runs.values() if run.handling]

    def _tasks(self) -> set[asyncio.Task[object]]:
        return {run.task for run in self._runs.values() if not run.task.done()}
