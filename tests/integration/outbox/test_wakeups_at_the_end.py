"""Programs and event loops that end while a wake-up is under way: no warning, no connection left behind."""

import asyncio
import gc
import subprocess
import sys

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from databases import Database
from outboxkit import enqueue
from outboxkit.database import sqlalchemy_url

ENDING = """
import asyncio, gc, sys
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from outboxkit import database, enqueue

async def asynchronous(url, disposed):
    engine = database.create_engine(url, application_name="script")
    async with AsyncSession(engine) as session, session.begin():
        await enqueue(session, "K")
    if disposed:
        await engine.dispose()

def synchronous(url, disposed):
    engine = create_engine(database.sqlalchemy_url(url))
    with engine.begin() as connection:
        enqueue(connection, "K")
    if disposed:
        engine.dispose()

kind, url, disposed = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
asyncio.run(asynchronous(url, disposed)) if kind == "asynchronous" else synchronous(url, disposed)
gc.collect()
"""


@pytest.mark.parametrize(("kind", "disposed"), [("asynchronous", True), ("asynchronous", False), ("synchronous", True)])
def test_a_script_that_ends_at_once(database: Database, kind: str, disposed: bool) -> None:
    """A program that enqueues and ends, disposing of its engine or not, leaves no warning and no traceback behind."""
    options = ["-W", "error", "-W", "ignore::ResourceWarning" if not disposed else "error"]
    ran = subprocess.run(
        [sys.executable, *options, "-c", ENDING, kind, database.url, str(disposed)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    with database.sync() as connection:
        assert connection.execute("select count(*) from outboxkit.outbox").fetchone() == (1,)


@pytest.mark.parametrize("turns", range(4))
def test_a_loop_that_ends_under_way(database: Database, turns: int) -> None:
    """However far a wake-up has got when the engine is disposed of and the loop ends, no connection is left open."""

    async def program(delay: float) -> None:
        engine = create_async_engine(sqlalchemy_url(database.url))
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        await _spin(delay)
        await engine.dispose()
        for _ in range(turns):
            await asyncio.sleep(0)

    for step in range(15):
        asyncio.run(program(step * 0.0004))
        gc.collect()  # a connection that is left says so now, and the test fails


async def _spin(seconds: float) -> None:
    # Without a timer, whose grain is coarser than the steps that matter here.
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:  # noqa: ASYNC110 (turns of the loop are what is wanted)
        await asyncio.sleep(0)
