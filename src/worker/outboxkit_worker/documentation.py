"""`/openapi.yaml`, the protocol's document, and `/docs`, a page that shows it to people without a network.

Nothing is read before the first request that asks for it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from litestar import HttpMethod, Response, route
from litestar.params import FromPath

from outboxkit.http import ProblemError
from outboxkit_contracts import document
from outboxkit_contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

_METHODS: Final = (HttpMethod.GET, HttpMethod.HEAD)
_PACKAGE: Final = "swagger_ui_bundle"
_FILES: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}

# Swagger UI draws its icons from data URLs; it may talk to this worker and to nobody else.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>outboxkit worker protocol</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = """SwaggerUIBundle({url: "/openapi.yaml", dom_id: "#page", deepLinking: true, validatorUrl: null});
"""


def routes() -> list[HTTPRouteHandler]:
    """The Litestar route handlers; HEAD gets what GET gets, without its body."""

    @route("/openapi.yaml", http_method=_METHODS, sync_to_thread=True)
    def openapi() -> Response[Any]:
        return _response(document.text(), "application/yaml", cache="no-cache")

    @route("/docs", http_method=_METHODS, sync_to_thread=True)
    def page() -> Response[Any]:
        _folder()
        return _response(_PAGE, "text/html", cache="no-cache")

    @route("/docs/{name:str}", http_method=_METHODS, sync_to_thread=True)
    def file(name: FromPath[str]) -> Response[Any]:
        if name == "start.js":
            return _response(_START, "text/javascript")
        if name not in _FILES:
            raise _not_found(f"There is nothing at /docs/{name}.")
        return _response((_folder() / name).read_bytes(), _FILES[name])

    return [openapi, page, file]


def _folder() -> Path:
    """Where Swagger UI's files are; the 404 problem that says what to install when they are not."""
    spec = find_spec(_PACKAGE)
    places = [] if spec is None else spec.submodule_search_locations or []
    for folder in (found for place in places for found in Path(place).glob("vendor/swagger-ui-*")):
        return folder
    raise _not_found(
        "This page needs the package swagger-ui-bundle-v2, which `pip install 'outboxkit[worker]'` installs; "
        "the document itself is at /openapi.yaml."
    )


def _not_found(detail: str) -> ProblemError:
    return ProblemError(Problem.of(ProblemType.NOT_FOUND, detail))


def _response(content: Any, media_type: str, *, cache: str = "max-age=86400") -> Response[Any]:
    headers = {"cache-control": cache, "content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
    return Response(content, media_type=media_type, headers=headers)
