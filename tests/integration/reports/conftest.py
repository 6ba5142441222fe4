"""A web application on the test's own database, and a runner for the jobs it enqueues."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from litestar.testing import AsyncTestClient
from sqlalchemy import Text, cast, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from databases import Database
from outboxkit import Job
from outboxkit.application import load
from outboxkit.job import Progress
from outboxkit.settings import Secret
from outboxkit.tables import jobs
from outboxkit_reports import handlers
from outboxkit_web.app import create_app
from outboxkit_web.settings import WebSettings

RunJob = Callable[[UUID], Awaitable[None]]


@pytest.fixture
def stocks() -> bytes:
    """The sample file."""
    return (Path(__file__).parents[3] / "examples" / "stocks.csv").read_bytes()


@pytest.fixture
async def client(database: Database) -> AsyncIterator[AsyncTestClient]:
    """A client of the web role with the sample application in it."""
    settings = WebSettings(database_url=Secret(database.url))
    app = create_app(settings=settings, application=load("outboxkit_reports"))
    async with AsyncTestClient(app=app) as client:
        yield client


class InOneTransaction:
    """An attempt whose session commits with the job's completion, as the worker's does."""

    cancelled = False

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def report(self, progress: Progress) -> None:
        """Nobody watches."""


@pytest.fixture
def run_job(engine: AsyncEngine) -> RunJob:
    """Run one job's handler in a transaction of its own and mark it succeeded in the same; any error rolls back.

    `outboxkit.testing.run_jobs` runs jobs one after another in one transaction; the tests here want several at once.
    """

    async def run(job_id: UUID) -> None:
        async with AsyncSession(engine) as session, session.begin():
            row = (await session.execute(select(jobs).where(jobs.c.id == job_id))).mappings().one()
            handler = handlers.get(row["kind"])
            assert handler is not None
            names = ("id", "kind", "queue", "attempt", "created_at", "traceparent")
            job = Job(
                **{name: row[name] for name in names}, max_attempts=5, app=None, _attempt=InOneTransaction(session)
            )
            await handler.function(handler.decode(await payload(session, job_id)), job)
            await session.flush()
            done = {"state": "succeeded", "started_at": func.clock_timestamp(), "finished_at": func.clock_timestamp()}
            await session.execute(update(jobs).where(jobs.c.id == job_id).values(attempt=1, **done))

    return run


async def payload(session: AsyncSession, job_id: UUID) -> str:
    """A job's payload as the worker sees it."""
    found = await session.scalar(select(cast(jobs.c.payload, Text)).where(jobs.c.id == job_id))
    return str(found)
