"""The worker's composition root."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request, Response, asgi
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_400_BAD_REQUEST
from litestar.types import Receive, Scope, Send

from outboxkit.application import Application
from outboxkit.http import exception_handlers, problem_response
from outboxkit_contracts.messages import MAX_TRIGGER_BYTES
from outboxkit_contracts.problems import Problem, ProblemType
from outboxkit_worker import documentation, replies
from outboxkit_worker.draining import Draining
from outboxkit_worker.readiness import HealthRoutes
from outboxkit_worker.service import Service
from outboxkit_worker.settings import WorkerSettings
from outboxkit_worker.trigger import TriggerEndpoint

if TYPE_CHECKING:
    from outboxkit_worker.tokens import TokenVerifier

log = logging.getLogger(__name__)


def create_app(*, settings: WorkerSettings, application: Application) -> Litestar:
    """The worker as an ASGI application; nothing runs and nothing connects before its lifespan starts.

    It starts also when the database is away, or when DATABASE_URL is not set: it says so in its log and in /health/ready,
    and answers well-formed triggers with 503.
    """
    draining = Draining(grace=settings.grace)
    tokens = _verifier(settings)
    endpoint = TriggerEndpoint(
        secrets=settings.secrets,
        tokens=tokens,
        both=settings.authentication == "all",
        wait_max=settings.wait_max,
        draining=draining,
    )
    health = HealthRoutes(settings=settings, draining=draining, keys=None if tokens is None else tokens.keys)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        _announce(settings, application)
        with draining.on_signals():
            if settings.database_url is None:
                yield
                draining.begin()
                return
            service = Service(
                settings.database_url.reveal(), settings=settings, application=application, draining=draining
            )
            async with service.running():
                endpoint.service = health.service = service
                yield

    @asgi(replies.PATH, copy_scope=False)
    async def process_job(scope: Scope, receive: Receive, send: Send) -> None:
        await endpoint(scope, receive, send)

    return Litestar(
        route_handlers=[process_job, *health.routes(), *documentation.routes()],
        lifespan=[lifespan] if tokens is None else [tokens.keys.running(), lifespan],
        exception_handlers={**exception_handlers(), HTTP_400_BAD_REQUEST: _malformed},
        request_max_body_size=MAX_TRIGGER_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def _malformed(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework calls a bad request is one to Litestar's router, a Host that is none: no fault of a trigger's."""
    return problem_response(Problem.of(ProblemType.MALFORMED_HTTP, f"{error.detail}."))


def _verifier(settings: WorkerSettings) -> TokenVerifier | None:
    """What checks tokens, where the settings ask for it."""
    if not settings.oidc_accounts:
        return None
    # Imported here: PyJWT, cryptography and httpx take 130 ms and as many modules, and most workers check no tokens.
    from outboxkit_worker.signing_keys import SigningKeys
    from outboxkit_worker.tokens import TokenVerifier

    assert settings.audience is not None  # noqa: S101 (the settings see to it)
    log.info("bearer tokens of %s for %s let triggers in", ", ".join(settings.oidc_accounts), settings.audience)
    return TokenVerifier(
        SigningKeys(settings.oidc_issuer),
        issuer=settings.oidc_issuer,
        audience=settings.audience,
        accounts=settings.oidc_accounts,
    )


def _announce(settings: WorkerSettings, application: Application) -> None:
    if settings.database_url is None:
        log.warning("DATABASE_URL is not set: this worker takes no jobs")
    if not settings.secrets and not settings.oidc_accounts:
        log.warning(
            "WORKER_TRIGGER_SECRET is not set, nor WORKER_OIDC_SERVICE_ACCOUNTS: "
            "POST /process-job is open to everybody who can reach it"
        )
    kinds = application.handlers.kinds()
    if not kinds:
        log.warning("there are no handlers: this worker runs no jobs; name the module that has them in OUTBOXKIT_APP")
    log.info("worker for %s: %s", application.name, ", ".join(kinds) or "no kinds")
