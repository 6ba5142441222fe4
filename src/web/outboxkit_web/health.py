"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

from litestar import Controller, Response, get
from litestar.datastructures import State
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from outboxkit import queries
from outboxkit.migrations import REVISION
from outboxkit_contracts.messages import Health, Readiness
from outboxkit_web.settings import WebSettings

log = logging.getLogger(__name__)


class HealthRoutes(Controller):
    """`/health` (and `/`) answer while the process lives; `/health/ready` while it can serve requests."""

    @get(["/", "/health"], opt={"exclude_from_auth": True})
    async def live(self, state: State) -> Health:
        """The process answers."""
        return Health("ok", "web", round(monotonic() - state.started, 3), datetime.now(UTC))

    @get("/health/ready", opt={"exclude_from_auth": True})
    async def ready(self, state: State) -> Response[Readiness]:
        """The database answers, and its migrations are at least what this code needs."""
        readiness = await _readiness(state.engine, state.settings)
        return Response(readiness, status_code=200 if readiness.status == "ready" else 503)


async def _readiness(engine: AsyncEngine, settings: WebSettings) -> Readiness:
    problems: list[str] = []
    database: Literal["up", "down"] = "up"
    migrations: Literal["current", "behind", "unknown"] = "unknown"
    try:
        async with engine.connect() as connection:
            exists = await connection.scalar(text("select to_regclass('outboxkit.alembic_version') is not null"))
            found = await connection.scalar(text(queries.load("readiness").decode())) if exists else None
        migrations = "current" if (found or "") >= REVISION else "behind"
        if migrations == "behind":
            problems.append(f"the database is at revision {found}, this code needs {REVISION}: run outboxkit migrate")
    except (DBAPIError, OSError, TimeoutError) as error:
        database = "down"
        problems.append("the database does not answer")
        log.warning("not ready: %s", error)
    return Readiness(
        status="not-ready" if problems else "ready",
        service="web",
        database=database,
        migrations=migrations,
        mode=settings.mode.value,
        mode_configured=True,
        authentication="none",
        problems=problems,
    )
