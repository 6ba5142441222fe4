"""A worker that keeps to the protocol, on the tables: claims, completes, and answers what is true."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from contract.relay.cases import Case
from outboxkit import Handlers, Job, leases
from outboxkit_contracts import Answer, ProblemType
from relaying import Tables
from sink import Reply, problem

# Attempts of a job; when its last one's lease runs out, the job is dead.
MOST = 2


class Worker:
    """Knows the kind K. What it runs it finishes at once, or later, or never."""

    def __init__(self, db: Tables) -> None:
        self._db = db
        self._id = uuid4()
        self._handlers = Handlers()
        self._running: dict[UUID, int] = {}

        @self._handlers.register("K", max_attempts=MOST)
        async def handler(_: dict[str, Any], job: Job) -> None: ...

    async def take(self, job: UUID, *, finish: bool) -> Case:
        """Do what a trigger asks for, and return the answer to it."""
        connection = self._db.connection
        state = (await leases.read_states(connection, [job])).get(job)
        if state is None:
            return _problem(ProblemType.UNKNOWN_JOB)
        if state.state != "queued":
            return _accepting(job, state.state, duplicate=True)
        if state.due_in > leases.EARLY.total_seconds():
            return _problem(ProblemType.NOT_DUE, retry_after=60)
        [lease] = await leases.claim_by_ids(
            connection, [job], handlers=self._handlers, worker=self._id, lease=timedelta(minutes=30)
        )
        self._running[job] = lease.attempt
        if finish:
            await self.finish(job)
        return _accepting(job, "succeeded" if finish else "running", duplicate=False)

    async def finish(self, job: UUID) -> None:
        """Complete what was left running, if the lease still holds."""
        attempt = self._running.pop(job, None)
        if attempt is not None:
            await leases.complete(self._db.connection, [(job, attempt, None)], worker=self._id)


def _accepting(job: UUID, state: Any, *, duplicate: bool) -> Case:
    status = 202 if state == "running" else 200
    body = Answer(job, True, state, duplicate, "").encode()
    return Case(f"an honest {status}", lambda _: Reply(status, body), "ack", status)


def _problem(kind: ProblemType, *, retry_after: int | None = None) -> Case:
    action = "dead-letter" if kind is ProblemType.UNKNOWN_JOB else "retry-then"
    return Case(
        f"an honest {kind.status}",
        lambda _: problem(kind, retry_after=retry_after),
        action,
        kind.status,
        kind.slug,
        job_gone=kind is ProblemType.UNKNOWN_JOB,
    )
