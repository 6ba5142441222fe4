"""Claims jobs and runs them: leases, signs of life, and the recording of what became of each attempt."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from threading import Condition, Event, Thread
from time import monotonic
from typing import NamedTuple
from uuid import uuid4

from database import Database, DatabaseError
from handlers import Handler, Reject, Stopped

RESULT_BYTES = 64 * 1024
ERROR_CHARACTERS = 2000
BACKOFF_MAX = 900.0
PAUSES = (0.1, 0.5, 2.0)
"""Seconds before an outcome is written again that could not be; then the lease is left to expire."""

CANCELLED, LOST, SHUTDOWN = "cancelled", "lost", "shutdown"
"""Why a run is stopped."""

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What was written down for an attempt: the job's state now, or None with the reason why nothing was."""

    state: str | None
    message: str


LOST_LEASE = Outcome(None, "The lease was lost; another worker has the job.")
UNRECORDED = Outcome(None, "The outcome could not be recorded; the lease will expire and the job will be run again.")


class Place(Enum):
    """Whether there is a slot for a job."""

    RESERVED = "a slot was taken"
    FULL = "every slot is taken"
    AT_WORK = "a handler of this process is at the job, with or without its lease"


class Failure(NamedTuple):
    """The attempt failed: a word for dashboards, a text for people, and whether trying again is no use."""

    reason: str
    error: str
    final: bool = False


@dataclass
class Run:
    """One attempt at a job in this process. (job, attempt, worker) is the fencing token."""

    job: str
    attempt: str
    max_attempts: str
    kind: str
    payload: str
    stopped: Event = field(default_factory=Event)
    why: str | None = None
    verdict: str | Failure = ""
    outcome: Outcome | None = None

    def stop(self, why: str) -> None:
        """Tell the handler to stop; a lost lease is the reason that counts."""
        if self.why != LOST:
            self.why = why
        self.stopped.set()


class Jobs:
    """The jobs of one worker. Every write is refused by Postgres once the lease is lost.

    If the process dies at any point, the leases expire and a sweep of the kit's relays or workers queues the jobs again.
    """

    def __init__(
        self, database: Database, handlers: Mapping[str, Handler], *, concurrency: int, lease: float, backoff: float
    ) -> None:
        """`lease` and `backoff` (the longest wait before the first retry) in seconds."""
        self.database = database
        self.handlers = handlers
        self.worker = str(uuid4())  # random for each start, so that no token is ever used twice
        self.concurrency = concurrency
        self.lease = lease
        self.backoff = backoff
        self.draining = False
        self.changed = Condition()
        """Notified when a slot is free, an outcome is known, or the worker is to shut down."""
        self._taken = 0
        self._claiming: set[str] = set()
        self._runs: dict[str, Run] = {}

    def reserve(self, job: str) -> Place:
        """Take a slot for a claim of this job, if it is free; waits for a claim of the same job that is under way."""
        with self.changed:
            self.changed.wait_for(lambda: job not in self._claiming)
            if job in self._runs:
                return Place.AT_WORK
            self._claiming.add(job)
            if self.changed.wait_for(lambda: self._taken < self.concurrency, timeout=0.1):
                self._taken += 1
                return Place.RESERVED
            self._claiming.remove(job)
            self.changed.notify_all()
            return Place.FULL

    def claim(self, job: str) -> Run | None:
        """Claim a job, for which a slot was reserved, and start it; None when it was not to be had. Raises DatabaseError."""
        run = None
        try:
            rows = self.claim_row(job)
            if rows:
                run = self._start(rows[0])
            return run
        finally:
            with self.changed:
                self._claiming.remove(job)
                self._taken -= run is None
                self.changed.notify_all()

    def claim_row(self, job: str) -> list[dict[str, str]]:
        """The claim itself: waits for whoever writes the row."""
        kinds = json.dumps({kind: handler.max_attempts for kind, handler in self.handlers.items()})
        return self.database.run("claim_by_id", job=job, worker=self.worker, lease=self.lease, kinds=kinds)

    def state(self, job: str) -> dict[str, str] | None:
        """The job as it stands now."""
        rows = self.database.run("read_state", job=job)
        return rows[0] if rows else None

    def wait(self, run: Run, seconds: float) -> Outcome | None:
        """The outcome; None when it is not there within so many seconds, or before the worker is to shut down."""
        with self.changed:
            self.changed.wait_for(lambda: run.outcome is not None or self.draining, timeout=seconds)
            return run.outcome

    def _start(self, row: dict[str, str]) -> Run:
        run = Run(row["id"], row["attempt"], row["max_attempts"], row["kind"], row["payload"])
        with self.changed:
            self._runs[run.job] = run
        Thread(target=self._attempt, args=(run,), name=f"run-{run.job}", daemon=True).start()
        return run

    def _attempt(self, run: Run) -> None:
        log.info("%s %s: attempt %s of %s", run.kind, run.job, run.attempt, run.max_attempts)
        handler = Thread(target=self._handle, args=(run,), name=f"handler-{run.job}", daemon=True)
        handler.start()
        self._show_signs_of_life(run, handler)
        outcome = UNRECORDED
        try:
            outcome = self.settle(run)
        except DatabaseError as error:
            log.error("%s: the outcome could not be recorded: %s", run.job, error)
        finally:
            log.info("%s %s: %s", run.kind, run.job, outcome.message)
            with self.changed:
                run.outcome = outcome
                del self._runs[run.job]
                self._taken -= 1
                self.changed.notify_all()

    def _handle(self, run: Run) -> None:
        try:
            result = self.handlers[run.kind].function(run.payload, run.stopped)
            run.verdict = result
            if len(result.encode()) > RESULT_BYTES:
                run.verdict = Failure("unusable-result", f"the result has more than {RESULT_BYTES} bytes", final=True)
        except Stopped:
            run.verdict = Failure(run.why or "handler-error", "the handler was told to stop")
        except Reject as error:
            run.verdict = Failure("handler-failed", str(error), final=True)
        except Exception as error:  # noqa: BLE001 (whatever a handler raises, the worker goes on)
            run.verdict = Failure("handler-error", f"{type(error).__name__}: {error}")

    def _show_signs_of_life(self, run: Run, handler: Thread) -> None:
        """Every third of a lease, until the handler ends; not past its timeout, so that one that hangs loses the lease."""
        deadline = monotonic() + self.handlers[run.kind].timeout
        while True:
            handler.join(self.lease / 3)
            if not handler.is_alive():
                return
            if monotonic() < deadline:
                try:
                    self.heartbeat(run)
                except DatabaseError as error:
                    log.warning("%s: no sign of life: %s", run.job, error)

    def heartbeat(self, run: Run) -> None:
        """One sign of life; stops the run when the job is to be cancelled or its lease is lost."""
        token = self._token(run)
        rows = self.database.run("heartbeat", **token, lease=self.lease, progress="")
        if rows and rows[0]["cancelled"] == "t":
            run.stop(CANCELLED)
        elif not rows:
            state = self.state(run.job)  # no row: lost, or only locked
            if state is None or state["state"] != "running" or not self._is_ours(run, state):
                run.stop(LOST)

    def settle(self, run: Run) -> Outcome:
        """Write down what became of the attempt. Raises DatabaseError when it could not be."""
        if run.why == LOST:
            return LOST_LEASE
        if isinstance(run.verdict, str):
            return self.complete(run, run.verdict)
        if run.why == SHUTDOWN:
            return self.give_back(run)
        return self.end_attempt(run, run.verdict._replace(final=True) if run.why == CANCELLED else run.verdict)

    def complete(self, run: Run, result: str) -> Outcome:
        """Record a success."""
        try:
            return self._record(run, "complete", result=result)
        except DatabaseError as error:
            if not error.is_about_data:
                raise
            return self.end_attempt(run, Failure("unusable-result", str(error), final=True))

    def end_attempt(self, run: Run, failure: Failure) -> Outcome:
        """Record a failure: a retry, a dead letter, or a cancellation."""
        # Postgres stores neither NUL nor half a surrogate pair.
        error = failure.error.replace("\0", "").encode("utf-8", "replace").decode()[:ERROR_CHARACTERS]
        delay = self.delay(int(run.attempt))
        return self._record(run, "end_attempt", reason=failure.reason, error=error, final=failure.final, delay=delay)

    def give_back(self, run: Run) -> Outcome:
        """Give an attempt back unharmed: queued at once, and not counted."""
        outcome = self._record(run, "give_back")
        return outcome if outcome.state != "queued" else Outcome("queued", "The worker has given the job back.")

    def delay(self, attempt: int) -> float:
        """Seconds until the next attempt: exponential, capped, with full jitter."""
        return random.uniform(0, min(BACKOFF_MAX, self.backoff * 2.0 ** min(attempt - 1, 30)))  # noqa: S311 (no secret)

    def _record(self, run: Run, name: str, **values: object) -> Outcome:
        """Run one fenced statement, again when the database was away."""
        for pause in (*PAUSES, None):
            try:
                rows = self.database.run(name, **self._token(run), **values)
                return _described(run, rows[0]["state"]) if rows else self._look(run)
            except DatabaseError as error:
                if error.is_about_data or pause is None:
                    raise
                log.warning("%s: %s, again in %.1f s: %s", run.job, name, pause, error)
            time.sleep(pause)
        raise AssertionError  # never reached: the last pause is None

    def _look(self, run: Run) -> Outcome:
        """The fence missed: the lease is lost, unless an earlier try was written and its answer did not come."""
        state = self.state(run.job)
        if state is None or state["state"] == "running" or not self._is_ours(run, state):
            return LOST_LEASE
        return _described(run, state["state"])

    def _token(self, run: Run) -> dict[str, str]:
        return {"job": run.job, "attempt": run.attempt, "worker": self.worker}

    def _is_ours(self, run: Run, state: dict[str, str]) -> bool:
        return (state["attempt"], state["leased_by"]) == (run.attempt, self.worker)

    def begin_draining(self) -> None:
        """Take no new jobs, and keep no request waiting."""
        with self.changed:
            self.draining = True
            self.changed.notify_all()

    def drain(self, grace: float, in_a_hurry: Callable[[], bool]) -> None:
        """Let the running jobs finish within the grace (seconds), unless somebody is in a hurry; give the others back."""
        deadline = monotonic() + grace
        while self._taken and monotonic() < deadline and not in_a_hurry():
            with self.changed:
                self.changed.wait(0.1)
        with self.changed:
            for run in self._runs.values():
                run.stop(SHUTDOWN)
            self.changed.wait_for(lambda: not self._taken, timeout=5.0)


def _described(run: Run, state: str) -> Outcome:
    failed = f"Attempt {run.attempt} of {run.max_attempts} failed"
    messages = {
        "succeeded": "Done.",
        "queued": f"{failed}; the next is recorded.",
        "failed": f"{failed}; the job is in the dead letters.",
        "cancelled": "The job was cancelled.",
    }
    return Outcome(state, messages[state])
