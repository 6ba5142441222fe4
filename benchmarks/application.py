"""The application that workers run here: handlers that do nothing, so that what is measured is the kit."""

import time
from typing import Any

from outboxkit import Handlers, Job

NOTHING = "NOTHING"
CLOCK = "CLOCK"

# About 120 bytes as JSON, as in the comparison of other queues.
PAYLOAD = {
    "order": 4711,
    "customer": "0198c5a2-7c3e-7b11-9d5f-3f6a1c2b4d5e",
    "currency": "EUR",
    "lines": [17, 4, 42],
    "note": "gift-wrapped",
}

handlers = Handlers()


@handlers.register(NOTHING)
async def nothing(payload: dict[str, Any], job: Job) -> None:
    """Do nothing."""


@handlers.register(CLOCK)
async def clock(payload: dict[str, Any], job: Job) -> float:  # noqa: ARG001 (every handler is given both)
    """Return when this ran, in seconds since 1970 by this machine's clock, which is the database's too."""
    return time.time()
