"""Jobs to measure with: a backlog written in one transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from benchmarks.application import NOTHING, PAYLOAD
from outboxkit import NewJob, enqueue_many
from outboxkit.database import sqlalchemy_url

Sessions = async_sessionmaker[AsyncSession]


@asynccontextmanager
async def sessions(url: str, *, size: int = 1) -> AsyncIterator[Sessions]:
    """A producer's own sessions: SQLAlchemy's defaults, and a pool as large as asked for."""
    engine = create_async_engine(sqlalchemy_url(url), pool_size=size)
    try:
        yield async_sessionmaker(engine)
    finally:
        await engine.dispose()


async def fill(make: Sessions, count: int) -> None:
    """Enqueue so many jobs that do nothing, all in one transaction: they become due, and are seen, at once."""
    async with make.begin() as session:
        await enqueue_many(session, [NewJob(NOTHING, PAYLOAD) for _ in range(count)])
