"""The trigger mode, switched to and fro while faults strike."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg

from outboxkit_worker.effective_mode import FRESH

# What is set one after the other, and how long each stays in force (seconds).
ROUND: Sequence[tuple[str | None, float]] = (("http", 2.0), ("db", 1.0), ("cloud-tasks", 3.0), (None, 2.0), ("db", 0.5))


class Modes:
    """Switches the override; in the end the environment, which says http, decides again."""

    def __init__(self, url: str, *, seed: int) -> None:
        self._url = url
        self._chance = random.Random(seed)
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def switching(self) -> AsyncIterator[None]:
        """To and fro for as long as this lasts."""
        task = asyncio.create_task(self._to_and_fro())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._insist(None)

    @asynccontextmanager
    async def held(self, mode: str) -> AsyncIterator[None]:
        """Keep one mode for as long as this lasts: for a fault that is felt in this one alone."""
        async with self._lock:
            await self._insist(mode)
            while not await self._is_in_force(mode):  # noqa: ASYNC110 (nothing tells when a relay has published it)
                await asyncio.sleep(0.1)
            yield

    @asynccontextmanager
    async def steady(self, mode: str) -> AsyncIterator[None]:
        """The same for a fault that needs every relay at work, and no worker polling (not even after db mode)."""
        async with self.held(mode):
            await asyncio.sleep(1.1 * FRESH)  # workers go by what they have read for so long
            yield

    async def _to_and_fro(self) -> None:
        while True:
            for mode, seconds in ROUND:
                async with self._lock:
                    await self._set(mode)
                await asyncio.sleep(seconds * self._chance.uniform(0.7, 1.3))

    async def _insist(self, mode: str | None) -> None:
        while not await self._set(mode):  # noqa: ASYNC110 (nothing tells when Postgres is back)
            await asyncio.sleep(0.1)

    async def _set(self, mode: str | None) -> bool:
        """Whether that could be written: Postgres may be away."""
        try:
            async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
                await connection.execute("update outboxkit.trigger_settings set mode_override = %s", [mode])
                await connection.execute("select pg_notify('outboxkit_wake', '')")
        except psycopg.Error:
            return False
        return True

    async def _is_in_force(self, mode: str) -> bool:
        """Whether a relay has published it."""
        try:
            async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
                statement = "select effective_mode = %s from outboxkit.trigger_settings"
                return await (await connection.execute(statement, [mode])).fetchone() == (True,)
        except psycopg.Error:
            return False
