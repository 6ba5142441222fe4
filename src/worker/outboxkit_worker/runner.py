"""Runs claimed jobs: the handler, its limits, and the recording of what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg

from outboxkit import traces
from outboxkit.handlers import Fail, Handlers, InvalidPayload, Retry
from outboxkit.job import Job
from outboxkit.leases import Lease
from outboxkit.logs import job_context
from outboxkit_worker import threads
from outboxkit_worker.recording import Recorder
from outboxkit_worker.registry import Registry
from outboxkit_worker.runs import LOST, UNRECORDED, Outcome, Run, Stop
from outboxkit_worker.session import Sessions
from outboxkit_worker.slots import Slots
from outboxkit_worker.verdicts import Backoff, Failure, Success, judge_error, judge_result

log = logging.getLogger(__name__)

_CANCELLED = Failure("cancelled", "somebody asked for the job to be cancelled while it ran", final=True)


class Runner:
    """Starts runs. The slot that was taken for a job before it was claimed is given back here, when its run is over."""

    def __init__(
        self,
        *,
        handlers: Handlers,
        sessions: Sessions,
        recorder: Recorder,
        registry: Registry,
        slots: Slots,
        backoff: Backoff,
        on_progress: Callable[[], None],
    ) -> None:
        """`on_progress` is called, in any thread, when there is progress to store."""
        self.app: Any = None
        """What handlers see as job.app."""
        self._handlers = handlers
        self._sessions = sessions
        self._recorder = recorder
        self._registry = registry
        self._slots = slots
        self._backoff = backoff
        self._on_progress = on_progress
        self._returns: set[asyncio.Task[None]] = set()

    def start(self, lease: Lease, traceparent: str | None = None) -> Run | None:
        """Run a job that was claimed; returns at once. `traceparent` is the trigger's, if it had one.

        None when this process is still at work on an old attempt at the job, which has lost its lease, then: that one is
        told to stop, and the new one is given back.
        """
        handler = self._handlers.get(lease.kind)
        old = self._registry.at_work(lease.id)
        if old is not None or handler is None:
            if old is not None:
                old.end_early(Stop.LOST)
            self._give_back(lease)
            return None
        run = Run(
            lease,
            handler,
            # A job that plain SQL enqueued has none; with one its lines can be found together.
            traceparent=traceparent or lease.traceparent or traces.new(),
            sessions=self._sessions,
            on_progress=self._on_progress,
        )
        self._registry.add(run)
        run.task = asyncio.create_task(self._attempt(run))
        return run

    def _give_back(self, lease: Lease) -> None:
        async def give_back() -> None:
            try:
                await self._recorder.give_back(lease)
            except psycopg.Error as error:
                log.warning("not given back, so the lease will expire: %s", error, extra={"job_id": lease.id})
            finally:
                self._slots.give()

        task = asyncio.create_task(give_back())
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)

    async def _attempt(self, run: Run) -> Outcome:
        lease = run.lease
        traces.current.set(run.traceparent)
        with job_context(job_id=lease.id, attempt=lease.attempt, traceparent=run.traceparent):
            try:
                verdict = await self._handle(run)
                run.handling = False
                outcome = await self._record(run, verdict)
                _log(run, outcome)
                return outcome
            finally:
                run.handling = False
                if run.opened is not None:
                    await run.opened.discard()
                if run.thread is None or run.thread.done():
                    self._over(run)
                else:
                    run.thread.add_done_callback(lambda _: self._over(run))

    def _over(self, run: Run) -> None:
        self._registry.remove(run)
        self._slots.give()

    async def _handle(self, run: Run) -> Success | Failure | Stop:
        """What the handler came to: never raises, except when the event loop itself is being closed."""
        attempt = run.lease.attempt
        try:
            async with asyncio.timeout(run.handler.timeout) as limit:
                result = await self._call(run)
        except asyncio.CancelledError as error:
            if run.stop is None and _being_cancelled():
                raise
            verdict: Success | Failure = judge_error(error, attempt=attempt, backoff=self._backoff)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a handler raises, the worker goes on)
            if limit.expired() and isinstance(error, TimeoutError):
                text = f"the handler took longer than its timeout of {run.handler.timeout:g} s"
                verdict = Failure("timeout", text, self._backoff.after(attempt))
            else:
                verdict = judge_error(error, attempt=attempt, backoff=self._backoff)
                _log_error(run, error)
        else:
            verdict = judge_result(result)
        return self._stopped(run, verdict)

    def _stopped(self, run: Run, verdict: Success | Failure) -> Success | Failure | Stop:
        """The verdict in the light of why the handler was stopped, if it was."""
        if run.stop is None:
            return verdict
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        if run.stop is Stop.LOST:
            return run.stop
        if run.stop is Stop.CANCELLED:
            # A thread that never looked has not returned early: it has succeeded, or failed, first.
            return _CANCELLED if run.handler.is_async or run.saw_cancel else verdict
        return verdict if isinstance(verdict, Success) else run.stop

    async def _call(self, run: Run) -> Any:
        lease = run.lease
        payload = run.handler.decode(lease.payload)
        job = Job(
            id=lease.id,
            kind=lease.kind,
            queue=lease.queue,
            attempt=lease.attempt,
            max_attempts=lease.max_attempts,
            created_at=lease.created_at,
            traceparent=run.traceparent,
            app=self.app,
            _attempt=run,
        )
        if run.handler.is_async:
            return await run.handler.function(payload, job)
        run.thread = threads.start(run.handler.function, payload, job, name=f"outboxkit-{lease.kind}")
        # Shielded, so that `thread` tells when the thread really ends.
        return await asyncio.shield(run.thread)

    async def _record(self, run: Run, verdict: Success | Failure | Stop) -> Outcome:
        try:
            if isinstance(verdict, Success):
                completed = await self._complete(run, verdict)
                if isinstance(completed, Outcome):
                    return completed
                verdict = completed
            if run.opened is not None:
                await run.opened.discard()
            if isinstance(verdict, Failure):
                return _noted(run, verdict, await self._recorder.fail(run.lease, verdict))
            return LOST if verdict is Stop.LOST else await self._recorder.give_back(run.lease)
        except Exception:
            # The lease is left to expire: then a sweep requeues the job, or ends it.
            log.exception("the outcome could not be recorded")
            return UNRECORDED

    async def _complete(self, run: Run, success: Success) -> Outcome | Failure:
        """Record a success; a Failure when it was the attempt that went wrong, and not the database."""
        if run.opened is None or not run.opened.used:
            try:
                return await self._recorder.succeed(run.lease, success.result)
            except psycopg.DataError as error:
                return Failure(
                    "unusable-result", f"Postgres cannot store what the handler returned: {error}", final=True
                )
        try:
            return await self._recorder.succeed_with(run.opened, run.lease, success.result)
        except Exception as error:  # noqa: BLE001 (what the handler did cannot be committed; that is its failure)
            _log_error(run, error)
            return judge_error(error, attempt=run.lease.attempt, backoff=self._backoff)


def _noted(run: Run, failure: Failure, outcome: Outcome) -> Outcome:
    """A death is logged with its reason: whoever is called about the dead letter looks here first."""
    if outcome.state == "failed":
        log.error("%s is dead (%s): %s", run.lease.kind, failure.reason, failure.error)
    return outcome


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_error(run: Run, error: BaseException) -> None:
    if run.stop is None and not isinstance(error, Retry | Fail | InvalidPayload):
        log.warning("the handler of %s failed", run.lease.kind, exc_info=error)


def _log(run: Run, outcome: Outcome) -> None:
    if outcome is LOST:
        log.warning("%s: %s", run.lease.kind, outcome.message)
    elif log.isEnabledFor(logging.INFO):
        log.info("%s: %s (%.3f s)", run.lease.kind, outcome.message, monotonic() - run.started)
