"""Hearing wake-ups, and knowing who sent them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg

from databases import Database
from outboxkit.wakeups import CHANNEL

LONGEST = 10.0


class Listener:
    """What has been heard on the wake-up channel since the last look."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def heard(self) -> list[int]:
        """The backend process of every wake-up sent before now.

        A mark of our own follows them, and Postgres delivers in the order of commits: nothing is still under way.
        """
        mark = uuid4().hex
        await self._connection.execute("select pg_notify(%s, %s)", [CHANNEL, mark])
        senders = []
        async with asyncio.timeout(LONGEST):
            async for notification in self._connection.notifies():
                if notification.payload == mark:
                    return senders
                senders.append(notification.pid)
        raise AssertionError("unreachable: the mark comes or the time is over")

    async def wait(self) -> int:
        """The backend process of the next wake-up."""
        async with asyncio.timeout(LONGEST):
            async for notification in self._connection.notifies():
                return notification.pid
        raise AssertionError("unreachable: a wake-up comes or the time is over")


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[Listener]:
    """Listen to the wake-ups of this database."""
    async with await database.connect() as connection:
        await connection.execute(f"listen {CHANNEL}")
        yield Listener(connection)


async def settled() -> None:
    """Return when no wake-up is being sent by this event loop."""
    sending = [task for task in asyncio.all_tasks() if task.get_name() == "outboxkit-wakeup"]
    await asyncio.gather(*sending)
