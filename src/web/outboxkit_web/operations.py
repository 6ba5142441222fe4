"""What a route says of itself in the OpenAPI document, beside the route: `operation_class=described(…)`.

Litestar derives parameters and the schema of a success from a route's signature. What it cannot see is said here: what
a success looks like, and every problem the route answers, each with the moment it comes and an example.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from litestar.openapi.spec import (
    Example,
    Link,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Responses,
    Schema,
)
from litestar.openapi.spec.base import BaseSchemaObject

from outboxkit.http import RETRY_AFTER
from outboxkit_contracts.messages import MAX_HEADER_BYTES, MAX_REQUEST_SECONDS, MAX_UPLOAD_SECONDS
from outboxkit_contracts.problems import PROBLEM_JSON, Problem, ProblemType


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """The answer when all is well; its status and schema are the route's own. Examples and links have names."""

    description: str
    examples: Mapping[str, Any]
    headers: Mapping[str, OpenAPIHeader] = {}
    links: Mapping[str, Link] = {}


class Refusal(msgspec.Struct, frozen=True):
    """A problem that a route answers: when, what the document says, and the headers that come with it."""

    when: str
    example: Problem
    headers: Mapping[str, OpenAPIHeader] = {}


def header(description: str, example: str | int, *, required: bool = True) -> OpenAPIHeader:
    """A response header, text or a whole number as its example is."""
    kind = OpenAPIType.STRING if isinstance(example, str) else OpenAPIType.INTEGER
    return OpenAPIHeader(schema=Schema(type=kind), description=description, required=required, example=example)


# Every route answers these, whatever it does itself.
EVERYWHERE: Final = (
    Refusal(
        "The Host header is not one.",
        Problem.of(ProblemType.MALFORMED_REQUEST, "Invalid host header"),
    ),
    Refusal(
        "The request is not proper HTTP; the connection is closed.",
        Problem.of(ProblemType.MALFORMED_HTTP, "Content-Length and Transfer-Encoding contradict each other."),
    ),
    Refusal(
        "The path answers other methods than this one.",
        Problem.of(
            ProblemType.METHOD_NOT_ALLOWED,
            "/health does not answer PUT; the header Allow names the methods it does answer.",
        ),
        {"Allow": header("The methods that the path answers (RFC 9110 §10.2.1).", "GET, HEAD, OPTIONS")},
    ),
    Refusal(
        f"The header lines did not arrive within {MAX_REQUEST_SECONDS} seconds, or the body not within "
        f"{MAX_UPLOAD_SECONDS}; the connection is closed.",
        Problem.of(ProblemType.REQUEST_TIMEOUT, "The request did not arrive in time."),
    ),
    Refusal(
        f"The header lines have more than {MAX_HEADER_BYTES:,} bytes; the connection is closed.",
        Problem.of(ProblemType.HEADERS_TOO_LARGE, f"The header lines have more than {MAX_HEADER_BYTES:,} bytes."),
    ),
    Refusal(
        "Something failed that should not have. Nothing of the request took effect, unless it was its commit that failed.",
        Problem.of(ProblemType.INTERNAL_ERROR, "Something failed that should not have; the log has the details."),
    ),
)

# And every route that asks for `session` this.
NO_DATABASE: Final = Refusal(
    "The database cannot be reached.",
    Problem.of(
        ProblemType.NO_DATABASE,
        "The database cannot be reached just now; send the request again, with the same Idempotency-Key if it had one.",
        retry_after=RETRY_AFTER,
    ),
    {"Retry-After": header("Seconds until another try makes sense.", RETRY_AFTER)},
)

_SHARED_NAMES: Final = {
    400: "MalformedRequest",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    431: "HeadersTooLarge",
    500: "InternalError",
    503: "NoDatabase",
}


@dataclass
class _Verbatim(BaseSchemaObject):
    """An example as it goes over the wire; of a plain value Litestar would leave out the nulls."""

    value: Any

    def to_schema(self) -> Any:
        """The value."""
        return msgspec.to_builtins(self.value)


def described(
    success: Success, *refusals: Refusal, also: Mapping[int, Success] | None = None, takes: RequestBody | None = None
) -> type[Operation]:
    """The `operation_class` of a route: what it answers, what it refuses besides `EVERYWHERE`, and the body it reads.

    `also` describes what the route declares in Litestar's `responses`; `takes` is for a body that the route reads by hand,
    so that it is not in its signature.
    """

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.request_body = takes or self.request_body
            first, *others = (self.responses or {}).items()
            answers = {first[0]: success, **{str(status): answer for status, answer in (also or {}).items()}}
            # Litestar adds a 400 that is no problem document.
            declared = {status: answer for status, answer in (first, *others) if status in answers}
            for status, answer in declared.items():
                _complete(answer, answers[status])
            self.responses = dict(sorted({**_refused(refusals), **declared}.items()))

    return Described


def shared() -> dict[str, OpenAPIResponse | Reference]:
    """The document's `components.responses`: what is the same for every route."""
    grouped = _by_status((*EVERYWHERE, NO_DATABASE))
    return {_SHARED_NAMES[status]: _response(status, refusals) for status, refusals in grouped.items()}


def _complete(answer: Any, success: Success) -> None:
    answer.description = success.description
    answer.headers = dict(success.headers) or None
    answer.links = dict(success.links) or None
    for content in answer.content.values():
        content.examples = {name: Example(value=_Verbatim(value)) for name, value in success.examples.items()}


def _refused(refusals: Sequence[Refusal]) -> Responses:
    own, everywhere = _by_status(refusals), _by_status(EVERYWHERE)
    answers: dict[str, OpenAPIResponse | Reference] = {}
    for status in own | everywhere:
        both = (*own.get(status, ()), *everywhere.get(status, ()))
        same = status not in own or own[status] == [NO_DATABASE]
        name = f"#/components/responses/{_SHARED_NAMES.get(status)}"
        answers[str(status)] = Reference(name) if same else _response(status, both)
    return answers


def _by_status(refusals: Iterable[Refusal]) -> dict[int, list[Refusal]]:
    grouped: defaultdict[int, list[Refusal]] = defaultdict(list)
    for refusal in refusals:
        grouped[refusal.example.status].append(refusal)
    return dict(grouped)


def _response(status: int, refusals: Sequence[Refusal]) -> OpenAPIResponse:
    types = list(dict.fromkeys(refusal.example.type for refusal in refusals))
    narrowed = Schema(properties={"type": Schema(enum=types), "status": Schema(const=status)})
    schema = Schema(all_of=[Reference("#/components/schemas/Problem"), narrowed])
    return OpenAPIResponse(
        description=" ".join(f"`{_slug(refusal)}`: {refusal.when}" for refusal in refusals),
        headers={name: value for refusal in refusals for name, value in refusal.headers.items()} or None,
        content={PROBLEM_JSON: OpenAPIMediaType(schema=schema, examples=_examples(refusals))},
    )


def _examples(refusals: Sequence[Refusal]) -> dict[str, Example | Reference]:
    examples: dict[str, Example | Reference] = {}
    for number, refusal in enumerate(refusals, 1):
        slug = _slug(refusal)
        examples[f"{slug}-{number}" if slug in examples else slug] = Example(
            summary=refusal.when, value=_Verbatim(refusal.example)
        )
    return examples


def _slug(refusal: Refusal) -> str:
    return refusal.example.type.rpartition(":")[2]
