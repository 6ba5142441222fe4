"""Connections to Postgres: one spelling of the URL, pools, and which errors are worth a second try."""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from sqlalchemy.engine import URL, make_url

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

# 40001 serialization_failure and 40P01 deadlock_detected: Postgres rolled the statement back and asks for another try.
RETRYABLE = frozenset({"40001", "40P01"})


def sqlalchemy_url(url: str) -> URL:
    """The URL for SQLAlchemy on psycopg 3, from any spelling: `postgres://`, `postgresql://` or `postgresql+driver://`.

    Raises ValueError, without the password in its text, when it is not a Postgres URL.
    """
    try:
        parsed = make_url(url)
    except Exception:  # noqa: BLE001 (its text, and its traceback, may hold a part of the password)
        raise ValueError("not a database URL; wanted postgresql://user:password@host:5432/name") from None
    if parsed.drivername.split("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError(f"a {parsed.drivername!r} URL; wanted postgresql://user:password@host:5432/name")
    return parsed.set(drivername="postgresql+psycopg")


def conninfo(url: str) -> str:
    """The same URL as libpq takes it, for psycopg itself."""
    parsed = sqlalchemy_url(url)
    # Not SQLAlchemy's own rendering, which leaves the database's name as it is and writes a space in a parameter as "+".
    user = ":".join(quote(part, safe="") for part in (parsed.username, parsed.password) if part is not None)
    host = f"[{parsed.host}]" if parsed.host and ":" in parsed.host else quote(parsed.host or "", safe="")
    place = f"{user}@{host}" if user else host
    if parsed.port is not None:
        place += f":{parsed.port}"
    parameters = urlencode(parsed.query, doseq=True, quote_via=quote)
    return f"postgresql://{place}/{quote(parsed.database or '', safe='')}" + (f"?{parameters}" if parameters else "")


def create_engine(url: str, *, pool_size: int = 5, pool_timeout: float = 30.0, application_name: str) -> AsyncEngine:
    """An engine whose connections are tested before use, so that a restarted Postgres costs no request.

    Nothing connects until the first use. `pool_timeout` (seconds) bounds the wait for a free connection.
    """
    from sqlalchemy.ext.asyncio import create_async_engine  # needs greenlet, which a sync producer may lack

    return create_async_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        pool_pre_ping=True,
        connect_args={"application_name": application_name},
    )


def create_pool(
    url: str, *, min_size: int = 1, max_size: int = 4, timeout: float = 5.0, application_name: str
) -> AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]:
    """A pool of autocommit psycopg connections for the hot paths; closed until `open()` is awaited.

    A connection that broke is replaced, not handed out. `timeout` (seconds) bounds the wait for a free one, after which
    psycopg_pool.PoolTimeout is raised.
    """
    from psycopg_pool import AsyncConnectionPool  # a producer needs no pool of ours

    return AsyncConnectionPool(
        conninfo(url),
        min_size=min_size,
        max_size=max_size,
        timeout=timeout,
        open=False,
        kwargs={"autocommit": True, "application_name": application_name},
        check=_check,
        reconnect_timeout=0,
    )


async def _check(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    """Raise when a connection that was idle has broken; unlike psycopg_pool's own check, without a round trip if it has not.

    A server that goes away, or ends the session, says so on the socket: while nothing can be read there, nothing happened.
    """
    if _readable(connection.fileno()):
        from psycopg_pool import AsyncConnectionPool  # as above

        await AsyncConnectionPool.check_connection(connection)


def _readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # Windows, whose select() takes any socket
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


async def retried(operation: Callable[[], Awaitable[T]], *, tries: int = 5) -> T:
    """What `operation` returns, tried again when Postgres says 40001 or 40P01; the last error is raised.

    `operation` must be a whole transaction or a single autocommit statement: after these errors nothing of it is left.
    """
    import psycopg

    for remaining in range(tries - 1, -1, -1):
        try:
            return await operation()
        except psycopg.OperationalError as error:
            if error.sqlstate not in RETRYABLE or not remaining:
                raise
    raise AssertionError("unreachable: the last try returns or raises")
