"""HEAD wherever there is GET, and an Allow that names every method of a path (RFC 9110 §9.1 and §10.2.1).

Litestar by itself answers HEAD with 405, and OPTIONS with the methods of whichever of a path's routes came first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send


def all_methods(app: Litestar) -> ASGIApp:
    """The application's own handler, so mended; to be put in its place once every route is registered."""
    inner = app.asgi_handler
    methods = {route.path_format: route.methods for route in app.routes if route.scope_type == ScopeType.HTTP}

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await inner(scope, receive, send)
            return
        head = scope["method"] == "HEAD"
        # A copy: the server looks at its own to see whether an answer may have a body.
        seen: Any = {**scope, "method": "GET"} if head else scope

        async def mended(message: Any) -> None:
            if message["type"] == "http.response.start":
                of_path = methods.get(seen.get("path_template", ""), ())
                message["headers"] = [_allow(name, value, of_path) for name, value in message["headers"]]
            elif head:
                message = {**message, "body": b""}
            await send(message)

        await inner(seen, receive, mended)

    return handler


def _allow(name: bytes, value: bytes, of_path: Iterable[str]) -> tuple[bytes, bytes]:
    """The header as it is, unless it is Allow."""
    if name.lower() != b"allow":
        return name, value
    named = {*value.decode("latin-1").replace(" ", "").split(","), *of_path}
    return name, ", ".join(sorted(named | ({"HEAD"} if "GET" in named else set()))).encode("latin-1")
