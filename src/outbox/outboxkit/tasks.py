"""Ending background tasks, however often one has to be asked."""

from __future__ import annotations

import asyncio
from typing import Any, Final

# Seconds between two requests to the same task: more than an orderly clean-up takes.
PATIENCE: Final = 1.0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and return when every one has ended; whatever they raised stays with them.

    A task that goes on is asked again each second. One request can get lost: up to Python 3.11 `asyncio.wait_for`, which
    psycopg's pool uses, hides a cancellation that comes in the same turn of the loop as what it waited for
    (https://github.com/python/cpython/issues/86296), and a loop that runs "until cancelled" would then run for ever. Code of
    ours uses `asyncio.timeout`, which does not.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=PATIENCE)
