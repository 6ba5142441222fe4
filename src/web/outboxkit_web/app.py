"""The web role's composition root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from outboxkit import traces, wakeups
from outboxkit.application import Application
from outboxkit.database import create_engine
from outboxkit.http import exception_handlers
from outboxkit_web import document, idempotency, sessions
from outboxkit_web.health import HealthRoutes
from outboxkit_web.methods import all_methods
from outboxkit_web.settings import WebSettings


def create_app(*, settings: WebSettings, application: Application, documented: bool = False) -> Litestar:
    """The ASGI application: the kit's routes and the application's own.

    Connects to nothing until a request needs it, so it starts while the database is away. If the process dies, requests
    under way are rolled back by Postgres. `documented` is for `outboxkit_web.document` alone: Litestar would serve its
    OpenAPI pages too, and they load from a CDN.
    """
    engine = create_engine(
        settings.database_url.reveal(), pool_size=settings.pool_size, application_name="outboxkit web"
    )

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        try:
            async with application.lifespan(engine) as value:
                app.state.app = value
                yield
        finally:
            await wakeups.drained()
            await engine.dispose()

    app = Litestar(
        route_handlers=[HealthRoutes, *application.routes()],
        dependencies={
            "session": Provide(sessions.provider(engine)),
            "idempotency_key": Provide(idempotency.provide_key),
        },
        exception_handlers=exception_handlers(),
        lifespan=[lifespan],
        middleware=[_trace],
        state=State({"engine": engine, "settings": settings, "started": monotonic(), "app": None}),
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,  # the process has its own; Litestar would put its handlers on the root logger
        openapi_config=document.config() if documented else None,
    )
    app.asgi_handler = all_methods(app)
    return app


def _trace(app: ASGIApp) -> ASGIApp:
    """Gives each request a trace context, the caller's if it sent one; what the request enqueues carries it on."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        header = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        token = traces.current.set(traces.parse(header) or traces.new())
        try:
            await app(scope, receive, send)
        finally:
            traces.current.reset(token)

    return middleware
