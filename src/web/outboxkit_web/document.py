"""The web role's OpenAPI document, made from its routes and from what `operations` says beside them."""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, License, Server, ServerVariable, Tag

from outboxkit.settings import DEFAULT_PORT
from outboxkit_contracts.messages import MAX_HEADER_BYTES, MAX_REQUEST_SECONDS, MAX_UPLOAD_SECONDS
from outboxkit_web.operations import shared
from outboxkit_web.settings import DEFAULT_BODY_BYTES

_DESCRIPTION: Final = f"""\
What the web role serves: an application's own routes, here those of the sample application, and the kit's health routes.

**One transaction a request.** A success was committed before it was sent: the rows that a route wrote and the jobs that it
enqueued are both there. Any other answer means that nothing of the request took effect, except that a 500 or 503 may leave
that open when it was the commit itself that failed.

**Errors** are RFC 9457 problem documents (`application/problem+json`), whatever goes wrong; their types are
`urn:outboxkit:problem:<slug>`. Clients ignore members they do not know. What is not proper HTTP gets a problem document too,
and a path that is not in this document 404 `not-found`.

**Idempotency-Key.** An operation that takes this header has its effect once for each key: a second request with the same key
and content gets the first one's answer again, with `Idempotency-Replayed: true`; with other content it gets 422
`idempotency-mismatch`. Of two at once the second waits for the first. A request that failed does not use up its key.

**Limits.** A body has at most {DEFAULT_BODY_BYTES:,} bytes (WEB_MAX_BODY_BYTES; 413), the header lines together at most
{MAX_HEADER_BYTES:,} bytes (431). The header lines arrive within {MAX_REQUEST_SECONDS} seconds of the first byte, and all of
the request within {MAX_UPLOAD_SECONDS} (408).

**Methods.** Where GET is answered, HEAD is too. OPTIONS names the methods of a path in Allow, as 405 does.
"""

_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457. Members beyond the five of the RFC appear where they apply.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "`urn:outboxkit:problem:<slug>`"},
        "title": {"type": "string", "description": "The same for every problem of this type."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What happened this time and what to do about it."},
        "instance": {"type": "string", "format": "uri-reference"},
        "state": {"type": "string", "description": "The state that stands in the way."},
        "retryAfter": {
            "type": "integer",
            "minimum": 0,
            "description": "Seconds; the same as the header Retry-After.",
        },
        "errors": {
            "type": "array",
            "description": "Every flaw of the input, where there may be several.",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {"type": "string", "description": "A JSON pointer into the input."},
                    "row": {"type": "integer", "minimum": 1, "description": "A line of a file; the first is 1."},
                    "column": {"type": "string"},
                },
            },
        },
    },
}

# What Litestar writes out although it says nothing.
_NOISE: Final = {"deprecated": False, "allowEmptyValue": False, "allowReserved": False, "headers": {}}
# Keywords whose values are data, not schemas.
_DATA: Final = frozenset({"example", "examples", "default", "const", "enum"})


def config() -> OpenAPIConfig:
    """What Litestar is told about the document."""
    return OpenAPIConfig(
        title="outboxkit web API",
        version="1",
        description=_DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        servers=[_server()],
        tags=[
            Tag(name="health", description="Is the process alive, and can it serve requests?"),
            Tag(name="reports", description="The sample application: upload prices, get a report."),
        ],
        security=[],
        components=Components(responses=shared()),
        use_handler_docstrings=True,
    )


def document(app: Litestar) -> dict[str, Any]:
    """The document of a `create_app(…, documented=True)` as plain JSON values, the same every time.

    Of a route without `described` it says what Litestar sees: nothing of its errors.
    """
    found: dict[str, Any] = _plain(app.openapi_schema.to_schema())
    found["components"]["schemas"]["Problem"] = _PROBLEM
    # A route with two paths has them in a set.
    found["paths"] = dict(sorted(found["paths"].items()))
    return found


def _server() -> Server:
    return Server(
        url="http://{host}:{port}",
        description="A web role where `outboxkit dev`, `make demo` or `outboxkit start` listens by default.",
        variables={
            "host": ServerVariable(default="localhost", description="HOST"),
            "port": ServerVariable(default=str(DEFAULT_PORT), description="PORT"),
        },
    )


def _plain(node: Any) -> Any:
    """The node without noise: no defaults, `type: [string, 'null']` for a choice between a type and null, 1 for 1.0."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, float) and node.is_integer():
        return int(node)
    if not isinstance(node, dict):
        return node
    said = {
        key: value if key in _DATA else _plain(value)
        for key, value in node.items()
        if key not in _NOISE or value != _NOISE[key]
    }
    if {"in", "schema"} <= said.keys():
        return _parameter(said)
    return _one_type(said)


def _parameter(said: dict[str, Any]) -> dict[str, Any]:
    """A parameter that need not be sent is absent then, never null; what its schema repeats of it is left out."""
    schema = _one_type(said["schema"])
    if isinstance(schema.get("type"), list):
        schema = {**schema, "type": schema["type"][0]}
    schema = {key: value for key, value in schema.items() if key not in ("description", "examples")}
    first = next(iter(said.pop("examples", {}).values()), None)
    return {**said, "schema": schema, **({"example": first["value"]} if first else {})}


def _one_type(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("oneOf", [])
    if len(choices) == 2 and choices[1] == {"type": "null"} and isinstance(choices[0].get("type"), str):
        rest = {key: value for key, value in schema.items() if key != "oneOf"}
        return {**choices[0], "type": [choices[0]["type"], "null"], **rest}
    return schema
