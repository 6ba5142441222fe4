"""The worker's own database connections, apart from those of its handlers' sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool

from outboxkit.database import create_pool, retried

T = TypeVar("T")
Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

# Two claims and two completions in flight, the poller, the sweeper, and one for everything rare.
POOL_SIZE: Final = 7

# Seconds that a statement waits for a connection; a database that is away is told to the caller after so long.
POOL_TIMEOUT: Final = 2.0


class Connections:
    """A pool that can be opened while the database is away; it heals when the database comes."""

    def __init__(self, url: str) -> None:
        """`url` in any spelling."""
        self.pool: AsyncConnectionPool[Connection] = create_pool(
            url, min_size=1, max_size=POOL_SIZE, timeout=POOL_TIMEOUT, application_name="outboxkit-worker"
        )

    async def open(self) -> None:
        """Start connecting; does not wait for the first connection."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close(timeout=1.0)

    async def run(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """What `operation` returns: one autocommit statement (or several reads), repeated after 40001 and 40P01.

        Raises psycopg.Error; of these, psycopg.OperationalError when there is no connection to be had in time.
        """
        async with self.pool.connection() as connection:
            return await retried(lambda: operation(connection))
