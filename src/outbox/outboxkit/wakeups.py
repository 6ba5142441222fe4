"""Wakes relays and pollers after a producer's commit: a NOTIFY on a connection of its own, coalesced.

Never inside the producer's transaction: NOTIFY there takes a lock on the whole database at commit, and sixteen producers
fall to less than half their rate. Best effort by design: whoever listens also polls, so a wake-up that is lost (the process
died, the pool was empty) costs one poll interval and nothing else.

How "after commit" is known, on a Session and on a bare Connection alike: SQLAlchemy's `commit` event comes before the COMMIT
is sent, so it only marks the connection; the wake-up goes when that connection is next begun or goes back to its pool.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.util import greenlet_spawn

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, Pool

CHANNEL: Final = "outboxkit_wake"

# Under load one wake-up a process in this time (seconds); the first after a quiet moment goes at once.
SPACING: Final = 0.01

# A wake-up that takes longer than this (seconds) is not waited for: the database is away, and nobody would hear it.
LONGEST_FLIGHT: Final = 1.0

_INFO_KEY: Final = "outboxkit_wakeup"
_NOTIFY = text(f"select pg_notify('{CHANNEL}', '')")

log = logging.getLogger(__name__)


class _Pending:
    """What one pooled connection has enqueued and not yet committed.

    An enqueue is noted under the number of the savepoint it was made in (0: none). Numbers grow, so whatever was enqueued
    since savepoint n was set has n or more, also when it was in an inner savepoint that was released since.
    """

    def __init__(self) -> None:
        self.armed: set[int] = set()
        self.committed = False

    def arm(self, savepoint: int) -> None:
        self.armed.add(savepoint)

    def rollback_to(self, savepoint: int) -> None:
        self.armed = {number for number in self.armed if number < savepoint}

    def end(self, *, committed: bool) -> None:
        self.committed = self.committed or (committed and bool(self.armed))
        self.armed = set()


# SQLAlchemy's listeners are added once an engine; weakly held, so an engine that is dropped is not kept alive by this (the
# listeners hold its sender, and the engine holds them).
_watched: WeakSet[Engine] = WeakSet()
_lock = threading.Lock()

# Wake-ups on their way, of every event loop; held so that none is collected in mid-air.
_flights: set[asyncio.Task[None]] = set()


async def drained() -> None:
    """Returns when every wake-up of this event loop is sent or given up; call it before an engine is disposed of.

    Without it a process that ends right after a commit may cancel a wake-up, whose connection is then never closed.
    """
    flights = [flight for flight in _flights if flight.get_loop() is asyncio.get_running_loop()]
    if flights:
        await asyncio.wait(flights, timeout=LONGEST_FLIGHT)


def arm(connection: Connection) -> None:
    """Note that this connection's transaction has enqueued something."""
    engine = _whole(connection.engine)
    with _lock:
        if engine not in _watched:
            _watch(engine)
            _watched.add(engine)
    # SQLAlchemy tells listeners a savepoint's name (sa_savepoint_1, …) when it ends, but not when it is set.
    nested = connection.get_nested_transaction()
    _pending(connection).arm(_number(getattr(nested, "_savepoint", "")))


def _number(savepoint: str) -> int:
    digits = savepoint.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def _whole(engine: Engine) -> Engine:
    # What Engine.execution_options makes is a view with the same pool and events; some make one for every request.
    while (proxied := getattr(engine, "_proxied", None)) is not None:
        engine = proxied
    return engine


def _pending(connection: Connection) -> _Pending:
    pending: _Pending = connection.info.setdefault(_INFO_KEY, _Pending())
    return pending


def _watch(engine: Engine) -> None:
    sender = _AsyncSender(engine) if engine.dialect.is_async else _ThreadSender(engine)

    @event.listens_for(engine, "rollback_savepoint")
    def _rollback_to(connection: Connection, name: str, context: Any) -> None:  # noqa: ARG001 (SQLAlchemy passes it)
        _pending(connection).rollback_to(_number(name))

    @event.listens_for(engine, "commit")
    def _commit(connection: Connection) -> None:
        _pending(connection).end(committed=True)

    @event.listens_for(engine, "rollback")
    def _rollback(connection: Connection) -> None:
        _pending(connection).end(committed=False)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        pending = _pending(connection)
        _fire(sender, pending)
        # Whatever a transaction has left here that ended unseen (its connection was reset by the pool) is void.
        pending.end(committed=False)

    @event.listens_for(engine, "checkin")
    def _checkin(dbapi_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:  # noqa: ARG001
        pending = record.info.get(_INFO_KEY)
        if pending is not None:
            _fire(sender, pending)


def _fire(sender: _Sender, pending: _Pending) -> None:
    if pending.committed:
        pending.committed = False
        sender.wake()


class _Sender(Protocol):
    """Sends wake-ups for one engine: at most one in flight, and at most one more waiting."""

    def wake(self) -> None:
        """Send one soon; returns at once."""


class _AsyncSender(_Sender):
    """On the event loop of the caller."""

    def __init__(self, engine: Engine) -> None:
        from sqlalchemy.ext.asyncio import AsyncEngine  # needs greenlet, which a sync producer may lack

        self._engine = AsyncEngine(engine)
        self._pool = engine.pool
        self._task: asyncio.Task[None] | None = None
        self._wanted = False
        self._last = 0.0

    def wake(self) -> None:
        self._wanted = True
        self._pool = self._engine.pool
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the engine is being disposed outside its loop; polling finds the job
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._send(), name="outboxkit-wakeup")
            _flights.add(self._task)
            self._task.add_done_callback(_flights.discard)

    async def _send(self) -> None:
        while self._wanted:
            await asyncio.sleep(max(0.0, self._last + SPACING - monotonic()))
            self._wanted = False
            pool = self._engine.pool
            if pool is not self._pool:
                return  # disposed since: connecting now would fill the new pool behind its owner's back
            try:
                await self._notify()
            except Exception as error:  # noqa: BLE001 (best effort: whoever listens also polls)
                log.debug("wake-up not sent: %s", error)
            finally:
                if self._engine.pool is not pool:
                    # Disposed meanwhile: nobody would close the connection that has just been given back.
                    await greenlet_spawn(pool.dispose)
            self._last = monotonic()

    async def _notify(self) -> None:
        # Not `async with`, which leaves closing to a task of its own: the end of the event loop would cancel that as well.
        connection = await self._engine.connect()
        try:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(_NOTIFY)
        finally:
            await connection.close()


class _ThreadSender(_Sender):
    """On a thread that lives as long as there is something to send."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = engine.pool
        self._lock = threading.Lock()
        self._running = False
        self._wanted = False
        self._process = os.getpid()

    def wake(self) -> None:
        if self._process != os.getpid():
            # A forked child: the thread has stayed behind in the parent, and so has whoever held the lock.
            self._lock, self._running, self._process = threading.Lock(), False, os.getpid()
        with self._lock:
            self._wanted = True
            self._pool = self._engine.pool
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._send, name="outboxkit-wakeup", daemon=True).start()

    def _send(self) -> None:
        while self._take():
            started = monotonic()
            pool = self._pool
            try:
                self._notify(pool)
            except Exception as error:  # noqa: BLE001 (best effort: whoever listens also polls)
                log.debug("wake-up not sent: %s", error)
            if self._engine.pool is not pool:
                pool.dispose()  # as in _AsyncSender
            threading.Event().wait(max(0.0, started + SPACING - monotonic()))

    def _take(self) -> bool:
        with self._lock:
            # As in _AsyncSender: an engine that was disposed of since is left alone.
            self._running = self._wanted and self._engine.pool is self._pool
            self._wanted = False
            return self._running

    def _notify(self, pool: Pool) -> None:
        with self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(_NOTIFY)
            if self._engine.pool is not pool:
                connection.invalidate()  # it may be the new pool's, which its owner takes for empty
