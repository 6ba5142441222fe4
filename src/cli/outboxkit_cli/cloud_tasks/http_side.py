"""The server's HTTP side: where tokens are checked, Google's metadata, and the switches for faults."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from outboxkit_cli.cloud_tasks.faults import Faults
from outboxkit_cli.cloud_tasks.metadata import MetadataServer
from outboxkit_cli.cloud_tasks.state import State
from outboxkit_cli.cloud_tasks.tokens import Signer

JWKS_PATH: Final = "/oauth2/v3/certs"
# Google lets its keys be kept for hours; a key that is changed here should be noticed while one watches.
CACHING: Final = {"Cache-Control": "public, max-age=60"}


class HttpSide:
    """Discovery, keys and switches; `application` also serves the metadata."""

    def __init__(self, state: State, signer: Signer, metadata: MetadataServer) -> None:
        self._state = state
        self._signer = signer
        self._metadata = metadata

    def application(self) -> web.Application:
        """Return the application."""
        app = web.Application()
        app.add_routes(
            [
                *self._metadata.routes(),
                web.get("/.well-known/openid-configuration", self.discovery),
                web.get(JWKS_PATH, self.jwks),
                web.get("/faults", self.faults),
                web.post("/faults", self.set_faults),
                web.post("/keys/rotate", self.rotate),
                web.post("/clock/advance", self.advance),
            ]
        )
        return app

    async def discovery(self, _: web.Request) -> web.Response:
        """Say where the keys are (OpenID Connect Discovery 1.0)."""
        issuer = self._signer.issuer
        document = {
            "issuer": issuer,
            "jwks_uri": f"{issuer}{JWKS_PATH}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return web.json_response(document, headers=CACHING)

    async def jwks(self, _: web.Request) -> web.Response:
        """Return the keys."""
        return web.json_response(self._signer.jwks(), headers=CACHING)

    async def faults(self, _: web.Request) -> web.Response:
        """Return the faults as they are set."""
        return _json(self._state.faults)

    async def set_faults(self, request: web.Request) -> web.Response:
        """Set the faults that the body names; the others stay as they are."""
        changes = _decoded(await request.read(), dict[str, Any])
        current = msgspec.to_builtins(self._state.faults)
        self._state.faults.update(_checked(lambda: msgspec.convert({**current, **changes}, Faults)))
        return _json(self._state.faults)

    async def rotate(self, request: web.Request) -> web.Response:
        """Sign with a new key from now on; `?retire=true` withdraws the earlier ones."""
        self._signer.rotate(retire=request.query.get("retire") == "true")
        return web.json_response(self._signer.jwks())

    async def advance(self, request: web.Request) -> web.Response:
        """Put the queues' clock forward by `?seconds=`."""
        seconds = _checked(lambda: float(request.query.get("seconds", "")))
        self._state.advance(seconds)
        return web.json_response({"ahead": self._state.clock.ahead})


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _decoded(body: bytes, kind: Any) -> Any:
    return _checked(lambda: msgspec.json.decode(body, type=kind))


def _checked(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
