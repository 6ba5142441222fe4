"""`job.session`: the transaction that commits together with the job's completion."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from outboxkit import queries
from outboxkit.leases import Lease

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger(__name__)

# Seconds after which an open transaction is warned about: the snapshot it holds slows every claim of every worker.
LONG: Final = 30.0

_STATEMENT: Final = queries.load("complete_attempt") + b";\ncommit"

# Where a connection carries the completion that goes with its next commit.
_COMPLETION: Final = "outboxkit_completion"


class _Guarded(Session):
    """Refuses to end its transaction before the job does."""

    refusing = True

    def commit(self) -> None:
        self._refuse("commit()", "use flush() to send what you have")
        super().commit()

    def begin(self, nested: bool = False) -> SessionTransaction:
        if not nested:
            self._refuse("begin()", "it has begun already; use begin_nested() for a savepoint")
        return super().begin(nested=nested)

    def close(self) -> None:
        self._refuse("close()", "it is closed after the job")
        super().close()

    def _refuse(self, what: str, instead: str) -> None:
        if self.refusing:
            raise InvalidRequestError(
                f"job.session refuses {what}: its transaction ends with the job, so that both take effect "
                f"together or not at all; {instead}, or open a session of your own for what must not wait"
            )


class Sessions:
    """Makes the sessions of one worker, on one engine."""

    def __init__(self, engine: AsyncEngine, *, worker: UUID) -> None:
        self._engine = engine
        self._worker = worker
        event.listen(engine.sync_engine, "commit", _complete_and_commit)

    def open(self, lease: Lease) -> JobSession:
        """A session for one attempt; it connects at first use."""
        return JobSession(self._engine, lease=lease, worker=self._worker)


class JobSession(AsyncSession):
    """An AsyncSession whose transaction begins at first use and is ended by the worker alone."""

    sync_session_class = _Guarded
    sync_session: _Guarded

    def __init__(self, engine: AsyncEngine, *, lease: Lease, worker: UUID) -> None:
        super().__init__(engine, expire_on_commit=False)
        self._lease = lease
        self._worker = worker
        self._over = False
        self._warning = asyncio.get_running_loop().call_later(LONG, self._warn)

    @property
    def used(self) -> bool:
        """Whether there is anything to commit."""
        session = self.sync_session
        return session.in_transaction() or bool(session.new or session.dirty or session.deleted)

    async def complete(self, result: str | None) -> None:
        """Complete the job and commit, in one message to Postgres, or raise and leave everything as it was.

        Raises psycopg.Error with SQLSTATE OBX01 when the lease was lost. If the process dies before Postgres has the whole
        message, nothing happened; after it, everything did, and at no time in between is the job's row locked. When the
        connection breaks, an error is raised and either may be the case.
        """
        await self.run_sync(self._complete, result)
        self._warning.cancel()
        self._over = True

    def _complete(self, session: Session, result: str | None) -> None:
        # SQLAlchemy commits, so that whatever listens to that still has its say in this transaction; just before its COMMIT
        # would be sent, _complete_and_commit finds this.
        info = session.connection().info
        info[_COMPLETION] = {
            "id": self._lease.id,
            "attempt": self._lease.attempt,
            "worker": self._worker,
            "result": result,
        }
        self.sync_session.refusing = False
        try:
            session.commit()
        finally:
            info.pop(_COMPLETION, None)
        session.close()

    async def discard(self) -> None:
        """Roll back what is not committed and return the connection; never raises."""
        if self._over:
            return
        self._over = True
        self._warning.cancel()
        self.sync_session.refusing = False
        try:
            await self.close()
        except Exception as error:  # noqa: BLE001 (the connection broke: then Postgres rolls back by itself)
            log.info("the job's session could not be closed: %s", error)
            await self.invalidate()

    def _warn(self) -> None:
        if self.sync_session.in_transaction():
            log.warning(
                "job.session has been open for %.0f s; an open transaction slows every claim: do slow work before its "
                "first use",
                LONG,
                extra={"job_id": self._lease.id, "attempt": self._lease.attempt},
            )


def _complete_and_commit(connection: Connection) -> None:
    completion = connection.info.pop(_COMPLETION, None)
    if completion is None:
        return

    async def send(driver: psycopg.AsyncConnection[Any]) -> None:
        # † Client-side parameters make it one message of the simple protocol, which Postgres reads whole before it begins.
        # In a pipeline of several, a process frozen after the completion and before the COMMIT would hold the row's lock.
        try:
            async with psycopg.AsyncClientCursor(driver) as cursor:
                await cursor.execute(_STATEMENT, completion)
        except BaseException:
            # SQLAlchemy sends no ROLLBACK any more once it has begun to commit: it would put the connection back into its
            # pool in the middle of the transaction.
            with suppress(psycopg.Error):
                await driver.rollback()
            raise

    # What SQLAlchemy does next is to commit; psycopg finds the connection idle by then, and sends nothing.
    adapted: Any = connection.connection.dbapi_connection
    adapted.run_async(send)
