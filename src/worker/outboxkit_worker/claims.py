"""Claims by id: concurrent triggers share a statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

import psycopg

from outboxkit import leases
from outboxkit.batching import MicroBatcher
from outboxkit.handlers import Handlers
from outboxkit.leases import JobState
from outboxkit_worker.connections import Connection, Connections
from outboxkit_worker.runner import Runner
from outboxkit_worker.runs import Run
from outboxkit_worker.slots import Slots

Wanted: TypeAlias = tuple[UUID, str | None]
Found: TypeAlias = Run | JobState | psycopg.Error | None


class Claims:
    """Claims jobs for triggers and starts their runs.

    A run is started here, and not by the request that asked for it: a request that is gone by then must not leave a job
    claimed that nobody runs.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        runner: Runner,
        slots: Slots,
        handlers: Handlers,
        worker: UUID,
        lease: timedelta,
    ) -> None:
        self._connections = connections
        self._runner = runner
        self._slots = slots
        self._handlers = handlers
        self._worker = worker
        self._lease = lease
        self._batcher = MicroBatcher[Wanted, Found](self._claim)

    async def claim(self, job_id: UUID, traceparent: str | None) -> Run | JobState | None:
        """Claim a job, for which the caller has taken a slot. The slot goes to the run, or is given back here.

        Returns the run; or, when the job could not be claimed, its state read afresh; or None when there is no such job.
        Raises psycopg.Error.
        """
        found = await self._batcher.submit((job_id, traceparent))
        if isinstance(found, psycopg.Error):
            raise found
        return found

    async def state(self, job_id: UUID) -> JobState | None:
        """The job as it stands now; None when there is no such job."""
        return (await self._connections.run(lambda c: leases.read_states(c, [job_id]))).get(job_id)

    async def flushed(self) -> None:
        """Returns when no claim is under way."""
        await self._batcher.drained()

    async def _claim(self, batch: Sequence[Wanted]) -> list[Found]:
        runs: dict[UUID, Run] = {}
        claimed = 0
        try:
            # An id that is wanted twice is claimed for the first, whose traceparent counts; the other finds it running.
            wanted = dict(reversed(batch))
            got = await self._connections.run(lambda c: self._execute(c, wanted))
            claimed = len(got)
            for lease in got:
                run = self._runner.start(lease, wanted[lease.id])
                if run is not None:
                    runs[lease.id] = run
        finally:
            self._slots.give(len(batch) - claimed)
        rest = [job_id for job_id, _ in batch]
        results: list[Found] = [runs.pop(job_id, None) for job_id in rest]
        missing = [job_id for job_id, run in zip(rest, results, strict=True) if run is None]
        if missing:
            states = await self._states(missing)
            results = [run or states.get(job_id) for job_id, run in zip(rest, results, strict=True)]
        return results

    async def _states(self, ids: Sequence[UUID]) -> Mapping[UUID, JobState | psycopg.Error]:
        """In a statement of its own: the claim's snapshot may be older than a wait for somebody's lock."""
        try:
            return await self._connections.run(lambda c: leases.read_states(c, ids))
        except psycopg.Error as error:
            # As a value: the others in the batch have their runs all the same.
            return dict.fromkeys(ids, error)

    async def _execute(self, connection: Connection, wanted: dict[UUID, str | None]) -> list[leases.Lease]:
        return await leases.claim_by_ids(
            connection, wanted, handlers=self._handlers, worker=self._worker, lease=self._lease
        )
