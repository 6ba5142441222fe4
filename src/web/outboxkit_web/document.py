"""The web role's OpenAPI document, made from its routes."""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar
from litestar.openapi import OpenAPIConfig

from outboxkit_contracts.problems import PROBLEM_JSON

_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "state": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {"type": "string"},
                    "row": {"type": "integer"},
                    "column": {"type": "string"},
                },
            },
        },
    },
}
_ANY_PROBLEM: Final = {
    "description": "An RFC 9457 problem document.",
    "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def config() -> OpenAPIConfig:
    """What Litestar is told about the document."""
    return OpenAPIConfig(title="outboxkit web API", version="1", use_handler_docstrings=True)


def document(app: Litestar) -> dict[str, Any]:
    """The document of a `create_app(…, documented=True)` as plain JSON values.

    Every error is an RFC 9457 problem, which Litestar's own schema does not say.
    """
    found: dict[str, Any] = app.openapi_schema.to_schema()
    found.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM
    # A route with two paths has them in a set: sorted, the document is the same every time.
    found["paths"] = dict(sorted(found["paths"].items()))
    for path in found["paths"].values():
        for operation in (value for value in path.values() if isinstance(value, dict)):
            answers = {code: answer for code, answer in operation["responses"].items() if code < "400"}
            operation["responses"] = {**answers, "default": _ANY_PROBLEM}
    return found
