"""The worker's health routes."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import psycopg
from litestar import HttpMethod, Response, route

from outboxkit import queries
from outboxkit.migrations import REVISION
from outboxkit_contracts.messages import Authentication, Health, WorkerReadiness
from outboxkit_worker.draining import Draining
from outboxkit_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from outboxkit_worker.connections import Connection
    from outboxkit_worker.service import Service
    from outboxkit_worker.signing_keys import SigningKeys

SERVICE: Final = "worker"
_METHODS: Final = (HttpMethod.GET, HttpMethod.HEAD)

_Migrations = Literal["current", "behind", "unknown"]


class HealthRoutes:
    """`/` and `/health` (alive), `/health/ready` (can take work). Set `service` once there is a database."""

    def __init__(self, *, settings: WorkerSettings, draining: Draining, keys: SigningKeys | None = None) -> None:
        self.service: Service | None = None
        self._keys = keys
        self._settings = settings
        self._draining = draining
        self._started = monotonic()

    def routes(self) -> list[HTTPRouteHandler]:
        """The Litestar route handlers; HEAD gets what GET gets, without its body."""

        @route(["/", "/health"], http_method=_METHODS, sync_to_thread=False)
        def health() -> Response[bytes]:
            return _json(self.health().encode(), 200)

        @route("/health/ready", http_method=_METHODS)
        async def ready() -> Response[bytes]:
            readiness = await self.readiness()
            return _json(readiness.encode(), 200 if readiness.status == "ready" else 503)

        return [health, ready]

    def health(self) -> Health:
        """Alive; says nothing about the database."""
        return Health("ok", SERVICE, round(monotonic() - self._started, 3), datetime.now(UTC))

    async def readiness(self) -> WorkerReadiness:
        """Whether the worker can take work, and in words why not.

        An issuer that is away makes no worker unready: it takes work with the keys that it has, with the secret and from its
        poller, and a fleet that was unready all at once would be replaced for nothing.
        """
        problems = list(self._settings.malformed.values())
        revision, up = await self._revision(problems)
        migrations: _Migrations = "unknown"
        if up:
            migrations = "current" if revision is not None and revision >= REVISION else "behind"
        if migrations == "behind":
            problems.append(f"The database is at revision {revision}, not {REVISION}: run `outboxkit migrate`.")
        if self._draining.begun:
            problems.append("The worker is shutting down.")
        mode = self._settings.mode if self.service is None else self.service.mode.known
        return WorkerReadiness(
            status="not-ready" if problems else "ready",
            service=SERVICE,
            database="up" if up else "down",
            migrations=migrations,
            mode=mode.value,
            mode_configured=self.service is None or self.service.mode.configured,
            authentication=_authentication(self._settings),
            signing_keys=msgspec.UNSET if self._keys is None else self._keys.state,
            problems=problems,
        )

    async def _revision(self, problems: list[str]) -> tuple[str | None, bool]:
        """The newest revision applied, and whether the database answers."""
        if self.service is None:
            problems.append("This worker has no database: set DATABASE_URL.")
            return None, False
        try:
            revision = await self.service.connections.run(_read_revision)
            await self.service.mode.read()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return None, True
        except psycopg.Error as error:
            # Its first line names host and port, never a password.
            problems.append(f"The database cannot be reached: {str(error).partition(chr(10))[0]}")
            return None, False
        return revision, True


def _authentication(settings: WorkerSettings) -> Authentication:
    if settings.secrets and settings.oidc_accounts:
        return "secret+oidc" if settings.authentication == "all" else "secret|oidc"
    if settings.oidc_accounts:
        return "oidc"
    return "secret" if settings.secrets else "none"


async def _read_revision(connection: Connection) -> str | None:
    row: Any = await (await connection.execute(queries.load("readiness"))).fetchone()
    return None if row is None else row[0]


def _json(body: bytes, status: int) -> Response[bytes]:
    return Response(body, status_code=status, media_type="application/json")
