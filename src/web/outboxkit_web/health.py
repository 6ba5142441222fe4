"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from time import monotonic
from typing import Final, Literal

import msgspec
from litestar import Controller, Response, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from outboxkit import queries
from outboxkit.migrations import REVISION
from outboxkit_contracts.messages import Health, Readiness
from outboxkit_web.operations import Success, described
from outboxkit_web.settings import WebSettings

log = logging.getLogger(__name__)

_ALIVE: Final = Success(
    description="The process is alive. Says nothing about its database; see `/health/ready`.",
    examples={"alive": Health("ok", "web", 12.5, datetime(2026, 1, 31, 12, tzinfo=UTC))},
)
_READY: Final = Readiness(
    status="ready",
    service="web",
    database="up",
    migrations="current",
    mode="db",
    mode_configured=True,
    authentication="none",
)
_DOWN: Final = msgspec.structs.replace(
    _READY, status="not-ready", database="down", migrations="unknown", problems=["the database does not answer"]
)


class HealthRoutes(Controller):
    """`/health` (and `/`) answer while the process lives; `/health/ready` while it can serve requests."""

    tags = ("health",)

    @get(
        ["/", "/health"],
        opt={"exclude_from_auth": True},
        operation_id=lambda _route, _method, path: "health" if path else "root",
        summary="Is the process alive?",
        operation_class=described(_ALIVE),
    )
    async def live(self, state: State) -> Health:
        """`/` says the same as `/health`, for load balancers that ask the root."""
        return Health("ok", "web", round(monotonic() - state.started, 3), datetime.now(UTC))

    @get(
        "/health/ready",
        opt={"exclude_from_auth": True},
        operation_id="ready",
        summary="Can the process serve requests?",
        operation_class=described(
            Success(description="Ready.", examples={"ready": _READY}),
            also={503: Success(description="Not ready; `problems` says why.", examples={"not-ready": _DOWN})},
        ),
        responses={503: ResponseSpec(Readiness, generate_examples=False)},
    )
    async def ready(self, state: State) -> Response[Readiness]:
        """Whether the database answers and its migrations are at least what this code needs.

        A 503 here has the same shape as the 200; it answers the question, and reports no error.
        """
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
