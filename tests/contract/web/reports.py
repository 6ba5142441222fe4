"""Real reports in every state, for requests to be aimed at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession

from databases import Database
from outboxkit import Handlers, wakeups
from outboxkit.database import create_engine
from outboxkit.tables import dead_letters, idempotency_keys, jobs, outbox
from outboxkit.testing import run_jobs
from outboxkit_reports import handlers, lifecycle
from outboxkit_reports.jobs import start_run
from outboxkit_reports.tables import Report, Section

FILE = b"date,symbol,price\n2000-01-01,A,1\n2000-02-01,A,2\n"

only_start = Handlers()
only_start.register("START_RUN", max_attempts=5, timeout=60)(start_run)


class Reports:
    """Makes reports and runs their jobs, with the application's own code, on an event loop of its own.

    `known` are the ids of a report that has succeeded, failed, begun and been cancelled, and of one that is queued.
    """

    def __init__(self, database: Database) -> None:
        self._engine = create_engine(database.url, application_name="tests")
        self._runner = asyncio.Runner()
        self.known = [str(report) for report in self._runner.run(self._in_every_state())]

    def run_jobs(self) -> None:
        """Run every job to its end."""
        self._runner.run(self._run(handlers))

    def wipe(self) -> None:
        """Forget every report, job and key."""
        self._runner.run(self._wipe())

    def close(self) -> None:
        """Disconnect."""
        self._runner.run(self._close())
        self._runner.close()

    async def _in_every_state(self) -> list[UUID]:
        succeeded = await self._create("Succeeded")
        await self._run(handlers)
        failed = await self._create("Failed")
        await self._execute(update(Report).where(Report.id == failed).values(csv=b"spoilt"))
        await self._run(handlers)
        begun = await self._create("Begun")
        await self._run(only_start)
        cancelled = await self._create("Cancelled")
        async with AsyncSession(self._engine) as session, session.begin():
            assert await lifecycle.cancel(session, cancelled)
        return [succeeded, failed, begun, cancelled, await self._create("Queued")]

    async def _create(self, title: str) -> UUID:
        async with AsyncSession(self._engine) as session, session.begin():
            return await lifecycle.create(session, lifecycle.NewReport(title, FILE))

    async def _run(self, registry: Handlers) -> None:
        async with AsyncSession(self._engine) as session, session.begin():
            await run_jobs(session, registry, limit=10_000)

    async def _execute(self, statement: Any) -> None:
        async with AsyncSession(self._engine) as session, session.begin():
            await session.execute(statement)

    async def _wipe(self) -> None:
        for table in (Section, Report, outbox, dead_letters, jobs, idempotency_keys):
            await self._execute(delete(table))

    async def _close(self) -> None:
        await wakeups.drained()
        await self._engine.dispose()


@contextmanager
def reports(database: Database) -> Iterator[Reports]:
    """Reports on this database."""
    made = Reports(database)
    try:
        yield made
    finally:
        made.close()
