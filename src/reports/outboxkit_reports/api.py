"""The sample application's web API. Each request is one transaction: the `session` that the web role hands in."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import msgspec
from litestar import MediaType, Request, Response, Router, delete, get, post
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from outboxkit.http import ProblemError
from outboxkit_contracts.problems import Flaw, Problem, ProblemType
from outboxkit_reports import examples, lifecycle, operations, uploads, views
from outboxkit_reports.operations import PATH
from outboxkit_reports.tables import Report
from outboxkit_reports.views import ReportPage, ReportView
from outboxkit_web.idempotency import Answer, IdempotencyKey, once
from outboxkit_web.sessions import RequestSession

ReportId: TypeAlias = Annotated[
    UUID, PathParameter(description="The report's id.", examples=[Example(value=str(examples.REPORT_ID))])
]


@post("/", operation_id="createReport", summary="Create a report from a price file", operation_class=operations.CREATE)
async def create_report(
    request: Request[Any, Any, Any], session: RequestSession, idempotency_key: IdempotencyKey
) -> Response[ReportView]:
    """Store a price file and start its report: one transaction writes both, and nothing is written when either fails.

    The file is checked first, row by row. The report runs in the background; read it to see how far it has come.
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


@get("/", operation_id="listReports", summary="List reports, newest first", operation_class=operations.LIST)
async def list_reports(
    session: RequestSession,
    limit: Annotated[
        int, QueryParameter(ge=1, le=100, description="The most reports a page has.", examples=[Example(value=20)])
    ] = 20,
    after: Annotated[
        str | None,
        QueryParameter(
            description="The `next` of the page before; without it the newest reports come.",
            schema_extra={"pattern": views.CURSOR_PATTERN},
            examples=[Example(value=examples.CURSOR)],
        ),
    ] = None,
) -> ReportPage:
    """A page at a time. Every report comes once, also when new ones are created between two pages."""
    return await views.newest(session, limit=limit, after=None if after is None else _cursor(after))


@get("/{report_id:uuid}", operation_id="readReport", summary="Read a report", operation_class=operations.READ)
async def read_report(session: RequestSession, report_id: ReportId) -> ReportView:
    """Its state, its sections and its jobs."""
    return await _existing(session, report_id)


@get(
    "/{report_id:uuid}/document",
    media_type=MediaType.HTML,
    operation_id="readDocument",
    summary="Download a report's page",
    operation_class=operations.DOCUMENT,
)
async def read_document(session: RequestSession, report_id: ReportId) -> Response[str]:
    """The finished page; 409 with the report's state as long as there is none."""
    document = await session.scalar(select(Report.document).where(Report.id == report_id))
    if document is None:
        state = (await _existing(session, report_id)).state
        detail = f"The report is {state}; it has a document when it has succeeded."
        raise ProblemError(Problem.of(ProblemType.CONFLICT, detail, state=state))
    return Response(document, headers=operations.DOCUMENT_HEADERS)


@delete(
    "/{report_id:uuid}",
    status_code=200,
    operation_id="cancelReport",
    summary="Cancel a report",
    operation_class=operations.CANCEL,
)
async def cancel_report(session: RequestSession, report_id: ReportId) -> ReportView:
    """Queued jobs are cancelled at once, running ones are asked to stop. The report stays and can be read."""
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
