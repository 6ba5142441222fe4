"""What each route of `api` says of itself in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from litestar.openapi.spec import Encoding, Example, Link, OpenAPIMediaType, OpenAPIType, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat

from outboxkit_contracts.problems import Flaw, Problem, ProblemType
from outboxkit_reports import examples, prices, uploads
from outboxkit_web.idempotency import MISMATCH, REPLAYED, UNUSABLE_KEY
from outboxkit_web.operations import NO_DATABASE, Refusal, Success, described, header

PATH: Final = "/api/reports"

# The page names the hash of its own style sheet; this header cannot, because an older document has another sheet.
# Both apply, so nothing but that sheet is let in. `sandbox` takes the page's origin away as well.
DOCUMENT_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; sandbox"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


def _links(where: str, *operations: str) -> dict[str, Link]:
    return {name: Link(operation_id=name, parameters={"report_id": where}) for name in operations}


def _body(
    description: str, example: dict[str, Any], encoding: dict[str, Encoding] | None = None, **file: Schema
) -> Any:
    title = Schema(
        type=OpenAPIType.STRING,
        min_length=1,
        max_length=uploads.LONGEST_TITLE,
        pattern=uploads.TITLE_PATTERN,
        description="Printable characters, not all of them spaces; spaces around it are trimmed.",
    )
    members: dict[str, Reference | Schema] = {"title": title, **file}
    return OpenAPIMediaType(
        schema=Schema(type=OpenAPIType.OBJECT, description=description, required=list(members), properties=members),
        examples={"two-companies": Example(summary="Two months of two companies", value=example)},
        encoding=encoding,
    )


_FILE: Final = (
    f"CSV in UTF-8 with the columns {', '.join(prices.COLUMNS)} in any order: at most {prices.MAX_BYTES:,} bytes, "
    f"{prices.MAX_ROWS:,} rows and {prices.MAX_SYMBOLS} symbols, each with at least two rows and one price a day."
)

UPLOAD: Final = RequestBody(
    required=True,
    description="A title and a price file; members and fields that are not named here are ignored.",
    content={
        "application/json": _body(
            "The file as a string.",
            {"title": examples.TITLE, "csv": examples.CSV},
            csv=Schema(type=OpenAPIType.STRING, min_length=1, max_length=prices.MAX_BYTES, description=_FILE),
        ),
        "multipart/form-data": _body(
            "The file as a file. Each field once.",
            {"title": examples.TITLE, "file": examples.CSV},
            {"file": Encoding(content_type="text/csv")},
            file=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description=_FILE),
        ),
    },
)

_UNKNOWN: Final = Refusal(
    "There is no such report, or the path holds no UUID.",
    Problem.of(ProblemType.NOT_FOUND, f"There is no report {examples.REPORT_ID}."),
)
_BAD_BODY: Final = Refusal(
    "The body is not JSON in UTF-8, or not a well-formed multipart form.",
    Problem.of(ProblemType.MALFORMED_REQUEST, "The body is not valid JSON: Input data was truncated."),
)
_TOO_LARGE: Final = Refusal(
    "The body is larger than this server reads (WEB_MAX_BODY_BYTES).",
    Problem.of(ProblemType.PAYLOAD_TOO_LARGE, "The body is larger than this server reads (WEB_MAX_BODY_BYTES)."),
)
_NEITHER: Final = Refusal(
    "The body is neither of the two media types.",
    Problem.of(
        ProblemType.UNSUPPORTED_MEDIA_TYPE,
        "The body's Content-Type is 'text/csv'; send application/json or multipart/form-data.",
    ),
)
_UNFIT: Final = Refusal(
    f"The title or the price file cannot be used; up to {prices.MAX_FLAWS} flaws are listed, each with its place.",
    Problem.of(
        ProblemType.INVALID_INPUT,
        "The price file cannot be used: 1 thing is wrong with it. Nothing was stored.",
        errors=(Flaw(detail='"-2" is not a positive price', row=3, column="price"),),
    ),
)

CREATE: Final = described(
    Success(
        description="The report, queued. It was committed together with its first job.",
        examples={"queued": examples.QUEUED},
        headers={"Location": header("The report's path.", f"{PATH}/{examples.REPORT_ID}"), **REPLAYED},
        links=_links("$response.body#/id", "readReport", "readDocument", "cancelReport"),
    ),
    _BAD_BODY,
    UNUSABLE_KEY,
    _TOO_LARGE,
    _NEITHER,
    _UNFIT,
    MISMATCH,
    NO_DATABASE,
    takes=UPLOAD,
)

LIST: Final = described(
    Success(
        description="A page of reports, newest first.",
        examples={"page": examples.PAGE, "none": {"items": [], "next": None}},
        links=_links("$response.body#/items/0/id", "readReport", "readDocument", "cancelReport"),
    ),
    Refusal(
        "`limit` or `after` cannot be used.",
        Problem.of(
            ProblemType.MALFORMED_REQUEST,
            "The cursor cannot be read.",
            errors=(Flaw(detail="not a cursor; take it from `next` of a page", pointer="/after"),),
        ),
    ),
    NO_DATABASE,
)

READ: Final = described(
    Success(
        description="The report as it is now: row, sections and jobs of one moment.",
        examples={"queued": examples.QUEUED, "succeeded": examples.SUCCEEDED, "failed": examples.FAILED},
        links=_links("$request.path.report_id", "readDocument", "cancelReport"),
    ),
    _UNKNOWN,
    NO_DATABASE,
)

DOCUMENT: Final = described(
    Success(
        description="One self-contained HTML page, without scripts, under a policy that lets nothing else in.",
        examples={"page": '<!DOCTYPE html>\n<html lang="en">…</html>\n'},
        headers={
            name: header("What a browser may do with the page.", value) for name, value in DOCUMENT_HEADERS.items()
        },
    ),
    _UNKNOWN,
    Refusal(
        "The report has no document (yet); `state` says why.",
        Problem.of(
            ProblemType.CONFLICT, "The report is queued; it has a document when it has succeeded.", state="queued"
        ),
    ),
    NO_DATABASE,
)

CANCEL: Final = described(
    Success(
        description="The report, cancelled. The same again when it was cancelled before.",
        examples={"cancelled": examples.CANCELLED},
        links=_links("$request.path.report_id", "readReport", "readDocument"),
    ),
    _UNKNOWN,
    Refusal(
        "The report has succeeded.",
        Problem.of(
            ProblemType.CONFLICT, "The report has succeeded; it cannot be cancelled any more.", state="succeeded"
        ),
    ),
    NO_DATABASE,
)
