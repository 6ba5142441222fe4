"""Google's metadata server, as far as google-auth asks it: whose account this is, and tokens for it.

Point GCE_METADATA_HOST at it. Like Google's it answers nobody who does not send `Metadata-Flavor: Google`, so that a browser
cannot be made to ask.
"""

import secrets
from typing import Final

from aiohttp import web

from outboxkit_cli.cloud_tasks.state import State
from outboxkit_cli.cloud_tasks.tokens import LIFETIME, Signer

FLAVOR: Final = ("Metadata-Flavor", "Google")
ROOT: Final = "/computeMetadata/v1"
SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)


class MetadataServer:
    """Speaks for one service account of one project."""

    def __init__(self, state: State, signer: Signer, *, project: str, account: str) -> None:
        self._state = state
        self._signer = signer
        self._project = project
        self._account = account

    def routes(self) -> list[web.RouteDef]:
        """Return its routes."""
        account = f"{ROOT}/instance/service-accounts/{{account}}"
        return [
            web.get("/", self.ping),
            web.get(f"{ROOT}/project/project-id", self.project),
            web.get(f"{ROOT}/universe/universe-domain", self.universe),
            web.get(f"{account}/", self.info),
            web.get(f"{account}/email", self.email),
            web.get(f"{account}/token", self.token),
            web.get(f"{account}/identity", self.identity),
        ]

    async def ping(self, _: web.Request) -> web.Response:
        """Say that this is a metadata server."""
        return _text("computeMetadata/\n")

    async def project(self, request: web.Request) -> web.Response:
        """Return the project's name."""
        _check_flavor(request)
        return _text(self._project)

    async def universe(self, request: web.Request) -> web.Response:
        """Return the domain of Google's services."""
        _check_flavor(request)
        return _text("googleapis.com")

    async def info(self, request: web.Request) -> web.Response:
        """Return the account with its scopes."""
        self._check(request)
        body = {"aliases": ["default"], "email": self._account, "scopes": SCOPES}
        return web.json_response(body, headers=dict([FLAVOR]))

    async def email(self, request: web.Request) -> web.Response:
        """Return the account's address."""
        self._check(request)
        return _text(self._account)

    async def token(self, request: web.Request) -> web.Response:
        """Return an access token; this server's gRPC side looks at none."""
        self._check(request)
        body = {
            "access_token": f"local.{secrets.token_urlsafe(32)}",
            "expires_in": LIFETIME - 1,
            "token_type": "Bearer",
        }
        return web.json_response(body, headers=dict([FLAVOR]))

    async def identity(self, request: web.Request) -> web.Response:
        """Return an identity token for an audience."""
        self._check(request)
        audience = request.query.get("audience", "")
        if not audience:
            raise web.HTTPBadRequest(text="non-empty audience parameter required", headers=dict([FLAVOR]))
        now = self._state.clock() - self._state.clock.ahead
        return _text(self._signer.sign(self._account, audience, now, expired=self._state.faults.expired_tokens))

    def _check(self, request: web.Request) -> None:
        _check_flavor(request)
        if request.match_info["account"] not in ("default", self._account):
            raise web.HTTPNotFound(headers=dict([FLAVOR]))


def _check_flavor(request: web.Request) -> None:
    name, value = FLAVOR
    if request.headers.get(name) != value:
        raise web.HTTPForbidden(text=f"Missing required header {name!r}: {value!r}")


def _text(body: str) -> web.Response:
    return web.Response(text=body, headers=dict([FLAVOR]))
