"""Connections: pools that survive the server's whims, LISTEN that comes back, and second tries."""

import asyncio
import select
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg_pool import PoolTimeout
from sqlalchemy import text

from databases import Database
from integration.outbox.stage import Stage
from outboxkit.database import create_engine, create_pool, retried
from outboxkit.listening import listen
from outboxkit.wakeups import CHANNEL
from waiting import until_async

KILL = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = %s and datname = current_database()
"""


async def test_pool_replaces_what_broke(stage: Stage) -> None:
    """A pooled connection whose backend was killed is replaced, not handed out."""
    async with create_pool(stage.database.url, min_size=1, max_size=1, application_name="pooled") as pool:
        for _ in range(3):
            async with pool.connection() as connection:
                assert connection.autocommit
                await connection.execute("select 1")
            assert len(await stage.observer.run(KILL, "pooled")) == 1
            # Not until Postgres shows it no longer: that is a moment before the news has arrived here.
            await until_async(
                lambda: select.select([connection], [], [], 0)[0], what="the end of the session to be heard"
            )


async def test_pool_opens_when_told(database: Database) -> None:
    """Nothing connects until open(), and a wait for a free connection ends."""
    pool = create_pool(database.url, min_size=1, max_size=1, timeout=0.05, application_name="pooled")
    assert pool.closed
    async with pool, pool.connection():
        with pytest.raises(PoolTimeout):
            await pool.getconn()


async def test_engine_survives_a_restart(stage: Stage) -> None:
    """An engine's connection that was killed costs the next request nothing."""
    engine = create_engine(stage.database.url, application_name="engine")
    for _ in range(3):
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))
        await stage.observer.run(KILL, "engine")
        await stage.eventually(lambda: _gone(stage, "engine"))
    await engine.dispose()


async def _gone(stage: Stage, name: str) -> bool:
    return not await stage.observer.run(
        "select from pg_stat_activity where application_name = %s and datname = current_database()", name
    )


@pytest.fixture
async def wake(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """An event that a listener sets, which reconnects without delay."""
    monkeypatch.setattr("outboxkit.listening._RECONNECT", 0.01)
    event = asyncio.Event()
    listener = asyncio.create_task(listen(database.url, event, application_name="listener"))
    yield event
    listener.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listener


async def test_listen(stage: Stage, wake: asyncio.Event) -> None:
    """A wake-up sets the event, and so does the start, because what came before was not heard."""
    for _ in range(3):
        async with asyncio.timeout(20):
            await wake.wait()
        wake.clear()
        await stage.observer.run(f"notify {CHANNEL}")


async def test_listen_comes_back(stage: Stage, wake: asyncio.Event) -> None:
    """A listener whose connection breaks makes a new one, and sets the event then."""
    for _ in range(3):
        async with asyncio.timeout(20):
            await wake.wait()
        wake.clear()
        assert len(await stage.observer.run(KILL, "listener")) == 1


@pytest.mark.parametrize("error", [psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure])
async def test_second_tries(error: type[psycopg.Error]) -> None:
    """A deadlock or a serialization failure is tried again, up to a limit; then it is raised."""
    tries = 0

    async def operation() -> int:
        nonlocal tries
        tries += 1
        if tries < 5:
            raise error
        return tries

    assert await retried(operation) == 5
    tries = 0
    with pytest.raises(error):
        await retried(operation, tries=4)
    assert tries == 4


async def test_other_errors_are_not_tried_again() -> None:
    """Anything else is raised at once: it would only happen again."""
    tries = 0

    async def operation() -> None:
        nonlocal tries
        tries += 1
        raise psycopg.errors.LockNotAvailable

    with pytest.raises(psycopg.errors.LockNotAvailable):
        await retried(operation)
    assert tries == 1
