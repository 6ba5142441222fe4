"""The relay's health over HTTP, where it has a port: a Cloud Run service must listen, a sidecar's probe wants an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, Literal

import psycopg
from aiohttp import web

from outboxkit import queries
from outboxkit.migrations import REVISION
from outboxkit.modes import Mode
from outboxkit_contracts.messages import Health, Readiness
from outboxkit_relay.mode import InForce
from outboxkit_relay.triggers import Pool

SERVICE: Final = "relay"

Handler = Callable[[web.Request], Awaitable[web.Response]]


class HealthSide:
    """`/` and `/health` (alive), `/health/ready` (in the mode that was asked for, with its database)."""

    def __init__(self, *, pool: Pool, in_force: Callable[[], InForce | None]) -> None:
        """`in_force` tells the mode, None while it was never read."""
        self._pool = pool
        self._in_force = in_force
        self._started = monotonic()

    @asynccontextmanager
    async def listening(self, *, host: str, port: int) -> AsyncIterator[None]:
        """Answer for as long as this lasts. Raises OSError when the port is taken."""
        application = web.Application()
        application.router.add_get("/", self._live)
        application.router.add_get("/health", self._live)
        application.router.add_get("/health/ready", self._ready)
        runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            yield
        finally:
            await runner.cleanup()

    async def readiness(self) -> Readiness:
        """Whether triggers go where they are meant to, and in words why not."""
        problems: list[str] = []
        revision, up = await self._revision(problems)
        migrations: Literal["current", "behind", "unknown"] = "unknown"
        if up:
            migrations = "current" if revision is not None and revision >= REVISION else "behind"
        if migrations == "behind":
            problems.append(f"The database is at revision {revision}, not {REVISION}: run `outboxkit migrate`.")
        in_force = self._in_force()
        if in_force is None:
            problems.append("The mode has not been read yet.")
        else:
            problems += in_force.problems
        return Readiness(
            status="not-ready" if problems else "ready",
            service=SERVICE,
            database="up" if up else "down",
            migrations=migrations,
            mode=(Mode.DB if in_force is None else in_force.mode).value,
            mode_configured=in_force is None or not in_force.problems,
            authentication="none",
            problems=problems,
        )

    async def _live(self, _: web.Request) -> web.Response:
        return _json(Health("ok", SERVICE, round(monotonic() - self._started, 3), datetime.now(UTC)).encode(), 200)

    async def _ready(self, _: web.Request) -> web.Response:
        readiness = await self.readiness()
        return _json(readiness.encode(), 200 if readiness.status == "ready" else 503)

    async def _revision(self, problems: list[str]) -> tuple[str | None, bool]:
        """The newest revision applied, and whether the database answers."""
        try:
            async with self._pool.connection() as connection:
                row: Any = await (await connection.execute(queries.load("readiness"))).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return None, True
        except psycopg.Error as error:
            # Its first line names host and port, never a password.
            problems.append(f"The database cannot be reached: {str(error).partition(chr(10))[0]}")
            return None, False
        return (None if row is None else row[0]), True


def _json(body: bytes, status: int) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
