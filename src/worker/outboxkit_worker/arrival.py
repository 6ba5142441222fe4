"""Reading a trigger's body within its limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from outboxkit_contracts.messages import MAX_TRIGGER_BYTES

if TYPE_CHECKING:
    from litestar.types import Receive, Scope

DEADLINE_EXTENSION: Final = "outboxkit.deadline"
"""An ASGI extension: the server itself ends a request that does not arrive in time, as `outboxkit worker` does.

Under another server the application has to, and pays a timer a request for it.
"""


async def read_body(scope: Scope, receive: Receive, *, seconds: float) -> bytes | None:
    """The body; None when it is too large.

    Raises TimeoutError when it is not there after so many seconds, and ConnectionResetError when the client went away.
    """
    if DEADLINE_EXTENSION in (scope.get("extensions") or ()):
        return await _read(receive)
    async with asyncio.timeout(seconds):
        return await _read(receive)


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message: Any = await receive()  # an HTTP message: either key may be left out
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        body += message.get("body", b"")
        if len(body) > MAX_TRIGGER_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)
