"""LISTEN: turns wake-ups from the database into an asyncio event, and survives the database."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import psycopg

from outboxkit.database import conninfo
from outboxkit.wakeups import CHANNEL

log = logging.getLogger(__name__)

_RECONNECT: Final = 1.0


async def listen(url: str, wake: asyncio.Event, *, application_name: str) -> None:
    """Set `wake` at every wake-up, until cancelled, on a dedicated autocommit connection.

    A connection that breaks is made anew, and `wake` is set then, because what came meanwhile was not heard. Whoever waits
    for `wake` polls as well: behind a transaction pooler nothing is heard at all.
    """
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(
                conninfo(url), autocommit=True, application_name=application_name
            )
            async with connection:
                await connection.execute(f"listen {CHANNEL}")
                wake.set()
                async for _ in connection.notifies():
                    wake.set()
        except psycopg.Error as error:
            log.info("not listening for wake-ups, polling instead: %s", error)
        await asyncio.sleep(_RECONNECT)
