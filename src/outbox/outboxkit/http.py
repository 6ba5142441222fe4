"""Litestar glue that the worker and the web role share: every error is an RFC 9457 problem document.

The only module of this package that imports Litestar; producers never import it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from http.client import responses
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.types import ExceptionHandlersMap
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from outboxkit_contracts.headers import names
from outboxkit_contracts.problems import PROBLEM_JSON, Flaw, Problem, ProblemType

log = logging.getLogger(__name__)

_BY_STATUS: Final = {
    400: ProblemType.MALFORMED_REQUEST,
    401: ProblemType.UNAUTHORIZED,
    403: ProblemType.FORBIDDEN,
    404: ProblemType.NOT_FOUND,
    405: ProblemType.METHOD_NOT_ALLOWED,
    409: ProblemType.CONFLICT,
    413: ProblemType.PAYLOAD_TOO_LARGE,
    415: ProblemType.UNSUPPORTED_MEDIA_TYPE,
    422: ProblemType.INVALID_INPUT,
}

RETRY_AFTER: Final = 5
"""Seconds until a request that found no database is worth another try."""

# SQLSTATE of a server that is there but takes no requests: connection exceptions, resources used up, shutting down.
_AWAY: Final = ("08", "53", "57P")

# Litestar's words for a client that went away before its body had arrived; it has no type of its own for that.
_CLIENT_LEFT: Final = "client disconnected prematurely"


class ProblemError(Exception):
    """Raised by a route to answer with this problem; whatever transaction it had is rolled back."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = dict(headers or {})


def problem_response(problem: Problem, *, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """The answer that carries a problem document."""
    return Response(
        content=problem.encode(),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=dict(headers or {}),
    )


def exception_handlers() -> ExceptionHandlersMap:
    """For `Litestar(exception_handlers=…)`: problems for everything that a route or the framework raises.

    A database that cannot be reached is a 503 with Retry-After; every other unforeseen error is a 500.
    """
    return {
        ProblemError: _own,
        HTTPException: _framework,
        DBAPIError: _database,
        PoolTimeout: _no_database,
        Exception: _unexpected,
    }


async def json_body(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard for routes that take JSON: 415 for another media type, 400 for what is not JSON in UTF-8.

    Litestar by itself takes any Content-Type for JSON, and answers 500 to invalid UTF-8 and to very deep nesting.
    """
    media_type = connection.headers.get("content-type", "")
    if not names(media_type, MediaType.JSON):
        raise ProblemError(
            Problem.of(
                ProblemType.UNSUPPORTED_MEDIA_TYPE,
                f"The body's Content-Type is {media_type!r}; send application/json.",
            )
        )
    if isinstance(connection, Request):
        check_json(await connection.body())


def check_json(body: bytes) -> None:
    """Raise the 400 problem that says why these bytes are not JSON in UTF-8, if they are not."""
    try:
        if not body.isascii():
            body.decode()
        msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise _malformed(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from None
    except RecursionError:
        raise _malformed("The body is nested too deeply.") from None
    except ValueError as error:
        raise _malformed(f"The body is not valid JSON: {error}.") from None


def _malformed(detail: str) -> ProblemError:
    return ProblemError(Problem.of(ProblemType.MALFORMED_REQUEST, detail))


def _own(_: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return problem_response(error.problem, headers=error.headers)


def _framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.detail == _CLIENT_LEFT:
        log.info("a client left before its request had arrived")
        return problem_response(Problem.of(ProblemType.MALFORMED_REQUEST, "The body did not arrive as a whole."))
    if error.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(request, error)
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        return problem_response(_untyped(error), headers=error.headers)
    problem = Problem.of(kind, _detail(request, error), errors=_flaws(error))
    return problem_response(problem, headers=error.headers)


def _untyped(error: HTTPException) -> Problem:
    """A status that only an application uses, 429 for instance, has no type of ours (RFC 9457 §4.2.1)."""
    title = responses.get(error.status_code, "Error")
    return Problem(type="about:blank", title=title, status=error.status_code, detail=error.detail)


def _database(request: Request[Any, Any, Any], error: DBAPIError) -> Response[bytes]:
    state = getattr(error.orig, "sqlstate", None)
    unreachable = isinstance(error, OperationalError) and (state is None or state.startswith(_AWAY))
    if error.connection_invalidated or unreachable:
        return _no_database(request, error)
    return _unexpected(request, error)


def _no_database(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    # The driver's own text: SQLAlchemy adds the statement and what a client sent.
    log.warning("a request found no database: %s", getattr(error, "orig", error))
    # It may have been the commit that broke: nobody knows then whether it took effect.
    detail = (
        "The database cannot be reached just now; send the request again, with the same Idempotency-Key if it had one."
    )
    problem = Problem.of(ProblemType.NO_DATABASE, detail, retry_after=RETRY_AFTER)
    return problem_response(problem, headers={"Retry-After": str(RETRY_AFTER)})


def _unexpected(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    # The text of an unforeseen error may hold anything, a secret too: it goes to the log and not over the wire.
    log.error("a request failed: %s", type(error).__name__, exc_info=error)
    return problem_response(
        Problem.of(ProblemType.INTERNAL_ERROR, "Something failed that should not have; the log has the details.")
    )


def _detail(request: Request[Any, Any, Any], error: HTTPException) -> str:
    if error.status_code == ProblemType.NOT_FOUND.status:
        return f"There is nothing at {request.url.path}."
    if error.status_code == ProblemType.METHOD_NOT_ALLOWED.status:
        return (
            f"{request.url.path} does not answer {request.method}; the header Allow names the methods it does answer."
        )
    if error.status_code == ProblemType.PAYLOAD_TOO_LARGE.status:
        return "The body is larger than this server reads (WEB_MAX_BODY_BYTES, 12 MB unless it was changed)."
    return error.detail


def _flaws(error: HTTPException) -> tuple[Flaw, ...]:
    extra = error.extra if isinstance(error.extra, list) else []
    return tuple(
        Flaw(detail=str(item.get("message", "")), pointer=_pointer(item)) for item in extra if isinstance(item, dict)
    )


def _pointer(item: dict[str, Any]) -> str | None:
    key = item.get("key")
    return "/" + str(key).replace(".", "/") if key else None
