"""The sample application's web API. Each request is one transaction: the `session` that the web role hands in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import MediaType, Request, Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat
from litestar.params import FromPath, HeaderParameter, QueryParameter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from outboxkit.http import ProblemError
from outboxkit_contracts.problems import Flaw, Problem, ProblemType
from outboxkit_reports import lifecycle, uploads, views
from outboxkit_reports.tables import Report
from outboxkit_reports.views import ReportPage, ReportView
from outboxkit_web.idempotency import Answer, once

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


@dataclass
class UploadOperation(Operation):
    """Describes the two bodies that POST takes; read by hand, they are not in the handler's signature."""

    def __post_init__(self) -> None:
        """Fill in the request body."""
        title = Schema(type=OpenAPIType.STRING, min_length=1, max_length=uploads.LONGEST_TITLE)
        text = Schema(type=OpenAPIType.STRING, description="CSV with the columns date, symbol and price.")
        file = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description="The same as a file, in UTF-8.")
        self.request_body = RequestBody(
            required=True,
            content={
                "application/json": OpenAPIMediaType(schema=_object(title=title, csv=text)),
                "multipart/form-data": OpenAPIMediaType(schema=_object(title=title, file=file)),
            },
        )


def _object(**properties: Schema) -> Schema:
    return Schema(type=OpenAPIType.OBJECT, required=list(properties), properties=dict(properties))


@post("/", operation_class=UploadOperation)
async def create_report(
    request: Request[Any, Any, Any],
    session: NamedDependency[AsyncSession],
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key")] = None,
) -> Response[ReportView]:
    """Store a price file and start its report: one transaction writes both.

    201 with the report and its Location; the same answer again for the same Idempotency-Key.
    """
    new = await uploads.read(request)
    answer = await once(
        session,
        scope=f"POST {PATH}",
        key=idempotency_key,
        request=new.fingerprint(),
        answer=partial(_create, session, new),
    )
    return Response(answer.body, status_code=answer.status, headers=answer.headers)


async def _create(session: AsyncSession, new: lifecycle.NewReport) -> Answer:
    report_id = await lifecycle.create(session, new)
    view = await _existing(session, report_id)
    return Answer(201, msgspec.to_builtins(view), {"Location": f"{PATH}/{report_id}"})


@get("/")
async def list_reports(
    session: NamedDependency[AsyncSession],
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    after: Annotated[str | None, QueryParameter(description="The `next` of the page before.")] = None,
) -> ReportPage:
    """Reports, newest first."""
    return await views.newest(session, limit=limit, after=None if after is None else _cursor(after))


@get("/{report_id:uuid}")
async def read_report(session: NamedDependency[AsyncSession], report_id: FromPath[UUID]) -> ReportView:
    """One report: its state, its sections and its jobs."""
    return await _existing(session, report_id)


@get("/{report_id:uuid}/document", media_type=MediaType.HTML)
async def read_document(session: NamedDependency[AsyncSession], report_id: FromPath[UUID]) -> Response[str]:
    """The finished page; 409 with the report's state as long as there is none."""
    document = await session.scalar(select(Report.document).where(Report.id == report_id))
    if document is None:
        state = (await _existing(session, report_id)).state
        detail = f"The report is {state}; it has a document when it has succeeded."
        raise ProblemError(Problem.of(ProblemType.CONFLICT, detail, state=state))
    return Response(document, headers=DOCUMENT_HEADERS)


@delete("/{report_id:uuid}", status_code=200)
async def cancel_report(session: NamedDependency[AsyncSession], report_id: FromPath[UUID]) -> ReportView:
    """Cancel a report: queued jobs at once, running ones are asked to stop. 409 when it has succeeded already."""
    try:
        if not await lifecycle.cancel(session, report_id):
            raise _unknown(report_id)
    except lifecycle.Completed:
        detail = "The report has succeeded; it cannot be cancelled any more."
        raise ProblemError(Problem.of(ProblemType.CONFLICT, detail, state="succeeded")) from None
    return await _existing(session, report_id)


async def _existing(session: AsyncSession, report_id: UUID) -> ReportView:
    view = await views.one(session, report_id)
    if view is None:
        raise _unknown(report_id)
    return view


def _unknown(report_id: UUID) -> ProblemError:
    return ProblemError(Problem.of(ProblemType.NOT_FOUND, f"There is no report {report_id}."))


def _cursor(text: str) -> views.Cursor:
    try:
        return views.Cursor.decode(text)
    except ValueError:
        flaw = Flaw(detail="not a cursor; take it from `next` of a page", pointer="/after")
        problem = Problem.of(ProblemType.MALFORMED_REQUEST, "The cursor cannot be read.", errors=(flaw,))
        raise ProblemError(problem) from None


routes = (
    Router(
        path=PATH,
        route_handlers=[create_report, list_reports, read_report, read_document, cancel_report],
        tags=["reports"],
    ),
)
