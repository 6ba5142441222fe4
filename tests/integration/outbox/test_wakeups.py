"""Wake-ups come after the commit, never with it, and never without one."""

import asyncio
import gc
import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from databases import Database, Server
from integration.outbox.wakes import Listener, listening, settled
from outboxkit import NewJob, enqueue, enqueue_many
from outboxkit.database import sqlalchemy_url
from outboxkit.wakeups import SPACING
from waiting import until


@pytest.fixture
async def listener(database: Database) -> AsyncIterator[Listener]:
    """Hears this database's wake-ups."""
    async with listening(database) as made:
        yield made


@pytest.fixture
def sync_engine(database: Database) -> Iterator[Engine]:
    """A producer without asyncio."""
    made = create_engine(sqlalchemy_url(database.url), pool_size=2, max_overflow=0)
    yield made
    _threads_end()
    made.dispose()


def _threads_end() -> None:
    until(
        lambda: not [t for t in threading.enumerate() if t.name == "outboxkit-wakeup"],
        what="the wake-up threads to end",
    )


def _statements(engine: Engine) -> list[tuple[Any, str]]:
    """Every statement this engine's connections execute from now on, with the connection (an id would be used again)."""
    executed: list[tuple[Any, str]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _note(connection: Any, _: Any, statement: str, *more: Any) -> None:  # noqa: ARG001 (SQLAlchemy passes them)
        executed.append((connection, statement))

    return executed


class TestAsync:
    """On an asyncio engine: a task of the producer's own loop."""

    async def test_session(self, engine: AsyncEngine, listener: Listener) -> None:
        """A session's commit wakes, its enqueue alone does not."""
        async with AsyncSession(engine) as session:
            await enqueue(session, "K")
            await settled()
            assert await listener.heard() == []
            await session.commit()
            assert await listener.wait()

    async def test_connection(self, engine: AsyncEngine, listener: Listener) -> None:
        """So does a bare connection's, and so does enqueue_many."""
        async with engine.connect() as connection:
            await enqueue_many(connection, [NewJob("K"), NewJob("K")])
            await connection.commit()
        assert await listener.wait()
        await settled()
        assert await listener.heard() == []

    async def test_connection_kept(self, engine: AsyncEngine, listener: Listener) -> None:
        """A connection that is kept wakes when its next transaction begins."""
        async with engine.connect() as connection:
            await enqueue(connection, "K")
            await connection.commit()
            await connection.execute(text("select 1"))
            assert await listener.wait()

    async def test_rollback(self, engine: AsyncEngine, listener: Listener) -> None:
        """Nothing is sent for what was rolled back, also when the connection commits something else afterwards."""
        async with AsyncSession(engine) as session:
            await enqueue(session, "K")
            await session.rollback()
            await session.execute(text("select 1"))
            await session.commit()
        await settled()
        assert await listener.heard() == []

    async def test_commit_of_something_else(self, engine: AsyncEngine, listener: Listener) -> None:
        """A transaction that enqueued nothing wakes nobody, also on an engine that has enqueued before."""
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        assert await listener.wait()
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(text("select 1"))
        await settled()
        assert await listener.heard() == []

    @pytest.mark.parametrize("known", [True, False], ids=["engine that enqueued before", "engine's first enqueue"])
    @pytest.mark.parametrize("depth", [1, 2])
    async def test_savepoint_rolled_back(
        self, engine: AsyncEngine, listener: Listener, known: bool, depth: int
    ) -> None:
        """Nothing is sent for what a savepoint took back, though the transaction commits."""
        if known:
            async with engine.begin() as connection:
                await enqueue(connection, "K")
            assert await listener.wait()
        async with AsyncSession(engine) as session, session.begin():
            outer = await session.begin_nested()
            for _ in range(depth - 1):
                await session.begin_nested()
            await enqueue(session, "K")
            await outer.rollback()
        await settled()
        assert await listener.heard() == []

    @pytest.mark.parametrize("known", [True, False], ids=["engine that enqueued before", "engine's first enqueue"])
    async def test_savepoint_released(self, engine: AsyncEngine, listener: Listener, known: bool) -> None:
        """What a released savepoint enqueued is sent with the commit, also beside one that was rolled back."""
        if known:
            async with engine.begin() as connection:
                await enqueue(connection, "K")
            assert await listener.wait()
        async with AsyncSession(engine) as session, session.begin():
            async with session.begin_nested():
                await enqueue(session, "K")
            taken_back = await session.begin_nested()
            await enqueue(session, "K")
            await taken_back.rollback()
            await settled()
            assert await listener.heard() == []
        assert await listener.wait()

    async def test_never_in_the_producers_transaction(self, engine: AsyncEngine, listener: Listener) -> None:
        """The producer's connection never notifies: that would take a lock on the whole database at commit."""
        executed = _statements(engine.sync_engine)
        async with AsyncSession(engine) as session, session.begin():
            producer = (await session.connection()).sync_connection
            await enqueue(session, "K")
        assert await listener.wait()
        assert len([statement for who, statement in executed if who is producer]) == 1
        assert [who is producer for who, statement in executed if "pg_notify" in statement] == [False]

    async def test_coalesced(self, engine: AsyncEngine, listener: Listener) -> None:
        """A burst of commits is one wake-up in SPACING, of which one comes after the last commit."""

        async def burst() -> None:
            for _ in range(20):
                async with AsyncSession(engine) as session, session.begin():
                    await enqueue(session, "K")

        started = time.monotonic()
        await asyncio.gather(*(burst() for _ in range(5)))
        await settled()
        possible = (time.monotonic() - started) / SPACING
        assert 1 <= len(await listener.heard()) <= possible + 2
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        assert await listener.wait()

    async def test_pool_of_one(self, database: Database, listener: Listener) -> None:
        """With a single connection the wake-up takes its turn behind the producer, and neither blocks the other."""
        engine = create_async_engine(sqlalchemy_url(database.url), pool_size=1, max_overflow=0)
        for _ in range(3):
            async with AsyncSession(engine) as session, session.begin():
                await enqueue(session, "K")
        assert await listener.wait()
        await settled()
        await engine.dispose()

    async def test_no_pool(self, database: Database, listener: Listener) -> None:
        """Nor does it need a pool."""
        engine = create_async_engine(sqlalchemy_url(database.url), poolclass=NullPool)
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        assert await listener.wait()
        await settled()
        await engine.dispose()

    async def test_asyncpg(self, database: Database, listener: Listener) -> None:
        """The driver does not matter."""
        engine = create_async_engine(sqlalchemy_url(database.url).set(drivername="postgresql+asyncpg"))
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        assert await listener.wait()
        await settled()
        await engine.dispose()

    @pytest.mark.parametrize("turns", range(6))
    async def test_disposed_engine(self, database: Database, turns: int) -> None:
        """An engine that is disposed of while a wake-up is on its way is left with no connection, and can be dropped."""
        engine = create_async_engine(sqlalchemy_url(database.url), connect_args={"application_name": "producer"})
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        for _ in range(turns):
            await asyncio.sleep(0)
        await engine.dispose()
        await settled()
        assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # a QueuePool
        gone = weakref.ref(engine.sync_engine)
        del engine, session
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None
        with database.sync() as observer:
            connected = (
                "select from pg_stat_activity where application_name = 'producer' and datname = current_database()"
            )
            until(lambda: not observer.execute(connected).fetchall(), what="the producer's connections to end")

    async def test_engine_used_after_dispose(self, engine: AsyncEngine, listener: Listener) -> None:
        """An engine that goes on after dispose(), as in a forked child, goes on waking."""
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        await engine.dispose()
        await settled()
        await listener.heard()
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        assert await listener.wait()

    async def test_options_of_an_engine(self, engine: AsyncEngine, listener: Listener) -> None:
        """Views that execution_options makes of an engine, one a request, share its sender: nothing piles up."""
        for tenant in range(3):
            view = engine.execution_options(schema_translate_map={None: f"tenant{tenant}"})
            async with AsyncSession(view) as session, session.begin():
                await enqueue(session, "K")
            assert await listener.wait()
        await settled()
        assert await listener.heard() == []
        gone = weakref.ref(view.sync_engine)
        del view, session
        gc.collect()
        assert gone() is None

    async def test_a_database_that_is_gone(
        self, postgres_server: Server, database: Database, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A wake-up that cannot be sent is a debug line, not an error: whoever listens also polls."""
        caplog.set_level(logging.DEBUG, "outboxkit.wakeups")
        async with AsyncSession(engine) as session, session.begin():
            await enqueue(session, "K")
        postgres_server.drop(database)  # before the event loop has had its turn
        await settled()
        assert [record.levelname for record in caplog.records if record.name == "outboxkit.wakeups"] == ["DEBUG"]


class TestSync:
    """On a plain engine: a thread that lives as long as there is something to send."""

    @pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
    async def test_session(self, database: Database, listener: Listener, driver: str) -> None:
        """A session's commit wakes, with either driver, and its enqueue alone does not."""
        engine = create_engine(sqlalchemy_url(database.url).set(drivername=f"postgresql+{driver}"))
        with Session(engine) as session:
            enqueue(session, "K")
            _threads_end()
            assert await listener.heard() == []
            session.commit()
        assert await listener.wait()
        _threads_end()
        engine.dispose()

    async def test_rollback(self, sync_engine: Engine, listener: Listener) -> None:
        """Nothing is sent for what was rolled back, by the transaction or by a savepoint."""
        with sync_engine.connect() as connection:
            enqueue(connection, "K")
            connection.rollback()
            with connection.begin():
                savepoint = connection.begin_nested()
                enqueue(connection, "K")
                savepoint.rollback()
        _threads_end()
        assert await listener.heard() == []

    async def test_never_in_the_producers_transaction(self, sync_engine: Engine, listener: Listener) -> None:
        """The producer's connection never notifies."""
        executed = _statements(sync_engine)
        with sync_engine.begin() as connection:
            producer = connection
            enqueue(connection, "K")
        assert await listener.wait()
        assert len([statement for who, statement in executed if who is producer]) == 1

    async def test_coalesced(self, sync_engine: Engine, listener: Listener) -> None:
        """A burst of commits is one wake-up in SPACING; the thread ends when there is nothing left to send."""
        started = time.monotonic()
        for _ in range(100):
            with sync_engine.begin() as connection:
                enqueue(connection, "K")
        _threads_end()
        possible = (time.monotonic() - started) / SPACING
        assert 1 <= len(await listener.heard()) <= possible + 2

    async def test_last_commit_is_heard(self, sync_engine: Engine, listener: Listener) -> None:
        """Whenever a commit falls, a wake-up comes after it: none slips between two turns of the thread."""
        for _ in range(30):
            with sync_engine.begin() as connection:
                enqueue(connection, "K")
            await listener.heard()
            with sync_engine.begin() as connection:
                enqueue(connection, "K")
            assert await listener.wait()

    def test_disposed_engine(self, database: Database) -> None:
        """An engine that is disposed of while a wake-up is on its way is left with no connection, and can be dropped."""
        engine = create_engine(sqlalchemy_url(database.url))
        with engine.begin() as connection:
            enqueue(connection, "K")
        engine.dispose()
        _threads_end()
        assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # a QueuePool
        gone = weakref.ref(engine)
        del engine, connection
        gc.collect()
        assert gone() is None

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_forked_process(self, sync_engine: Engine) -> None:
        """A child that is forked while the parent's thread runs wakes on a thread of its own."""
        with sync_engine.begin() as connection:
            enqueue(connection, "K")
        child = os.fork()  # the thread has just been started, and lives for ten milliseconds at least
        if child == 0:
            _enqueue_in_child(sync_engine)
        _, status = os.waitpid(child, 0)
        assert status == 0, "the child was to enqueue and to wake"


def _enqueue_in_child(engine: Engine) -> None:
    """What a pre-forking server's child does; it must not return into pytest."""
    signal.alarm(20)
    try:
        engine.dispose(close=False)
        sent = _statements(engine)
        with engine.begin() as connection:
            enqueue(connection, "K")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not any("pg_notify" in statement for _, statement in sent):
            time.sleep(0.01)
        os._exit(0 if any("pg_notify" in statement for _, statement in sent) else 1)
    finally:
        os._exit(2)
