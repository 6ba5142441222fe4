"""The jobs of the containers: each notes once that it took effect, HOLD not before the gate is opened."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from outboxkit import Handlers, Job

handlers = Handlers()


@asynccontextmanager
async def lifespan(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """Handlers look at the gate through the engine."""
    yield engine


@handlers.register("NOTE")
async def note(payload: dict[str, int], job: Job) -> None:  # noqa: ARG001 (every handler is given its payload)
    """Take effect, together with the job's completion."""
    await job.session.execute(text("insert into effects (job) values (:job)"), {"job": job.id})


@handlers.register("HOLD")
async def hold(payload: dict[str, int], job: Job) -> None:
    """Take effect once the gate is open."""
    while not await gate_is_open(job.app):  # noqa: ASYNC110 (the test that opens it is outside of this container)
        await asyncio.sleep(0.05)
    await note(payload, job)


async def gate_is_open(engine: AsyncEngine) -> bool:
    """Tell whether the test has opened the gate."""
    async with engine.connect() as connection:
        return bool(await connection.scalar(text("select exists (select from gate)")))
