"""Records what became of attempts: fenced, in batches where that is possible, and again when the database was away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID

import psycopg

from outboxkit import leases
from outboxkit.batching import MicroBatcher
from outboxkit.leases import Lease
from outboxkit_worker.connections import Connection, Connections
from outboxkit_worker.runs import LOST, Outcome
from outboxkit_worker.session import JobSession
from outboxkit_worker.verdicts import Failure, sqlstate

T = TypeVar("T")
log = logging.getLogger(__name__)

# Seconds before each new try when the database cannot be reached; then the lease is left to expire.
PAUSES: Final = (0.1, 0.5, 2.0)

_DONE: Final = Outcome("succeeded", "Done.")
_GIVEN_BACK: Final = Outcome("queued", "The worker is shutting down and has given the job back.")

Attempt = tuple[UUID, int]


class Recorder:
    """Writes the outcomes of one worker's attempts. Every write is refused once the lease is lost (G3)."""

    def __init__(self, connections: Connections, *, worker: UUID) -> None:
        self._connections = connections
        self._worker = worker
        self._completions = MicroBatcher[tuple[UUID, int, str | None], bool](self._complete, separable=_is_about_data)
        self._returns = MicroBatcher[Attempt, bool](self._give_back)

    async def succeed(self, lease: Lease, result: str | None) -> Outcome:
        """Complete an attempt that did nothing through `job.session`."""
        return _DONE if await self._completions.submit((lease.id, lease.attempt, result)) else LOST

    async def succeed_with(self, session: JobSession, lease: Lease, result: str | None) -> Outcome:
        """Complete an attempt in its session's transaction.

        When the connection breaks and it cannot be known whether the commit went through, the attempt is ended as one to
        retry at once: that waits for the row, so it finds either the completion, which then counts, or an attempt that
        Postgres has rolled back.

        Raises the error when there is nothing to commit any more: a constraint checked at the end, a conflict.
        """
        try:
            await session.complete(result)
        except Exception as error:
            await session.discard()
            if sqlstate(error) == leases.LEASE_LOST:
                return LOST
            if not _is_broken(error):
                raise
            log.warning("the connection broke at the commit; finding out what became of it: %s", error)
            return await self.fail(lease, Failure("connection-lost", "the connection broke at the commit"))
        return _DONE

    async def fail(self, lease: Lease, failure: Failure) -> Outcome:
        """Record a failed attempt: a retry, a dead letter, or a cancellation if that was asked for."""

        async def end(connection: Connection) -> Outcome:
            ended = await leases.end(
                connection,
                lease,
                worker=self._worker,
                reason=failure.reason,
                error=failure.error,
                delay=failure.delay,
                final=failure.final,
            )
            if ended is None:
                return await self._look(connection, lease)
            return _after_failure(ended.state, lease, failure.delay)

        return await self._persistently(end)

    async def give_back(self, lease: Lease) -> Outcome:
        """Give an attempt back unharmed: queued at once, and not counted."""
        return _GIVEN_BACK if await self._returns.submit((lease.id, lease.attempt)) else LOST

    async def flushed(self) -> None:
        """Returns when everything submitted is written, or given up."""
        await self._completions.drained()
        await self._returns.drained()

    async def _complete(self, batch: Sequence[tuple[UUID, int, str | None]]) -> list[bool]:
        tries = 0

        async def complete(connection: Connection) -> set[UUID]:
            nonlocal tries
            tries += 1
            done = await leases.complete(connection, batch, worker=self._worker)
            if tries > 1 and len(done) < len(batch):
                # The try before may have been committed and its answer lost.
                states = await leases.read_states(connection, [b[0] for b in batch if b[0] not in done])
                tokens = {job: attempt for job, attempt, _ in batch}
                done |= {s.id for s in states.values() if s.state == "succeeded" and self._is_ours(s, tokens[s.id])}
            return done

        done = await self._persistently(complete)
        return [job in done for job, _, _ in batch]

    async def _give_back(self, batch: Sequence[Attempt]) -> list[bool]:
        given = await self._connections.run(lambda c: leases.give_back(c, batch, worker=self._worker))
        return [job in given for job, _ in batch]

    async def _look(self, connection: Connection, lease: Lease) -> Outcome:
        """The fence missed: the lease is lost, unless an earlier try of ours was written and its answer lost."""
        state = (await leases.read_states(connection, [lease.id])).get(lease.id)
        if state is None or state.state == "running" or not self._is_ours(state, lease.attempt):
            return LOST
        if state.state == "succeeded":
            return _DONE
        return _after_failure(state.state, lease, timedelta(seconds=state.due_in))

    def _is_ours(self, state: leases.JobState, attempt: int) -> bool:
        return state.attempt == attempt and state.leased_by == self._worker

    async def _persistently(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """What the operation returns; tried again, after a pause, while the database cannot be reached."""
        for pause in PAUSES:
            try:
                return await self._connections.run(operation)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.warning("an outcome was not recorded, trying again in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)
        return await self._connections.run(operation)


def _after_failure(state: str, lease: Lease, delay: timedelta) -> Outcome:
    failed = f"Attempt {lease.attempt} of {lease.max_attempts} failed"
    if state == "queued":
        return Outcome("queued", f"{failed}; the next is due in {delay.total_seconds():.3g} s.")
    if state == "cancelled":
        return Outcome("cancelled", "The job was cancelled.")
    return Outcome("failed", f"{failed}; the job is in the dead letters.")


def _is_about_data(error: BaseException) -> bool:
    return isinstance(error, psycopg.DataError)


def _is_broken(error: BaseException) -> bool:
    """Whether the connection went away, so that nobody knows what became of what was sent last."""
    original = getattr(error, "orig", None) or error
    state = sqlstate(error)
    # 08: connection exceptions; 57P: the server is shutting down.
    return isinstance(original, psycopg.OperationalError | psycopg.InterfaceError) and (
        state is None or state.startswith(("08", "57P"))
    )
