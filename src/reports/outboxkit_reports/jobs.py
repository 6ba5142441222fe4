"""The jobs of a report: START_RUN fans out a RUN_SECTION for each section, the last of which enqueues FINISH_RUN.

Everything is written through `job.session`, so it commits together with the job's completion and takes effect once,
however often a job is attempted. If the process dies in the middle, the attempt is rolled back and made again.

The report's row is locked *before* anything is decided about it, by all three and by a cancellation: of two sections that
end at the same time the second waits, then sees the first one's part and knows that it is the last. Rows of this
application are locked before rows of jobs (the completion comes last), so nothing here can deadlock with the worker.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from outboxkit import Fail, Handlers, Job, NewJob, enqueue_many
from outboxkit_reports import prices
from outboxkit_reports.sections import SECTIONS, Parts, from_json, to_json
from outboxkit_reports.tables import Report, Section

handlers = Handlers()


class StartRun(msgspec.Struct, frozen=True):
    """Payload of START_RUN. Jobs carry ids only: the data stay in the report's row."""

    report_id: UUID


class RunSection(msgspec.Struct, frozen=True):
    """Payload of RUN_SECTION."""

    report_id: UUID
    section: str


class FinishRun(msgspec.Struct, frozen=True):
    """Payload of FINISH_RUN."""

    report_id: UUID


@handlers.register("START_RUN", max_attempts=5, timeout=60)
async def start_run(payload: StartRun, job: Job) -> None:
    """Check the data, then write the sections and enqueue a job for each, in one transaction.

    Fails for good on data that cannot be read: the web role checks them too, but a report may be written by anyone.
    """
    session = job.session
    await _read_prices(session, payload.report_id)
    report = await locked(session, payload.report_id)
    if report is None or report.cancelled_at is not None:
        return
    work = [NewJob("RUN_SECTION", RunSection(report.id, name), unique_key=f"{report.id}/{name}") for name in SECTIONS]
    ids = await enqueue_many(session, work)
    rows = [
        {"report_id": report.id, "name": name, "job_id": job_id} for name, job_id in zip(SECTIONS, ids, strict=True)
    ]
    await session.execute(insert(Section).on_conflict_do_nothing(), rows)


@handlers.register("RUN_SECTION", max_attempts=5, timeout=120)
async def run_section(payload: RunSection, job: Job) -> None:
    """Compute one section and store it; whoever stores the last one enqueues FINISH_RUN.

    A section that has its part already keeps it, so a repeated job counts once.
    """
    compute = SECTIONS.get(payload.section)
    if compute is None:
        raise Fail(f"there is no section {payload.section!r}; there are {', '.join(SECTIONS)}")
    series = await _read_prices(job.session, payload.report_id)
    part = to_json(await asyncio.to_thread(compute, series))
    report = await locked(job.session, payload.report_id)
    if report is None or report.cancelled_at is not None:
        return
    await _store(job.session, payload, part)
    if report.finish_job is None and not await _missing(job.session, report.id):
        report.finish_job = await job.enqueue("FINISH_RUN", FinishRun(report.id), unique_key=str(report.id))


@handlers.register("FINISH_RUN", max_attempts=5, timeout=120)
async def finish_run(payload: FinishRun, job: Job) -> None:
    """Make the page from the stored sections and put it into the report."""
    # Jinja2 is needed by this one job, and by no process that only enqueues.
    from outboxkit_reports.rendering import render

    session = job.session
    report = await session.get(Report, payload.report_id)
    if report is None:
        raise Fail(f"there is no report {payload.report_id}")
    parts = await _stored(session, report.id)
    made_on = report.created_at.date()
    document = await asyncio.to_thread(render, title=report.title, parts=parts, made_on=made_on)
    report = await locked(session, report.id)
    if report is not None and report.cancelled_at is None:
        report.document = document
        report.completed_at = await session.scalar(select(func.clock_timestamp()))


async def locked(session: AsyncSession, report_id: UUID) -> Report | None:
    """The report as it is now, its row locked until the transaction ends (FOR NO KEY UPDATE); None if there is none."""
    return await session.get(Report, report_id, with_for_update={"key_share": True}, populate_existing=True)


async def _read_prices(session: AsyncSession, report_id: UUID) -> tuple[prices.Series, ...]:
    csv = await session.scalar(select(Report.csv).where(Report.id == report_id))
    if csv is None:
        raise Fail(f"there is no report {report_id}")
    try:
        return await asyncio.to_thread(prices.parse, csv)
    except prices.InvalidPrices as error:
        raise Fail(f"the prices cannot be read: {error}") from error


async def _store(session: AsyncSession, payload: RunSection, part: dict[str, object]) -> None:
    mine = (Section.report_id == payload.report_id, Section.name == payload.section)
    await session.execute(
        update(Section)
        .where(*mine, Section.completed_at.is_(None))
        .values(part=part, completed_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


async def _missing(session: AsyncSession, report_id: UUID) -> bool:
    unfinished = select(Section.name).where(Section.report_id == report_id, Section.completed_at.is_(None))
    return await session.scalar(select(unfinished.exists())) is True


async def _stored(session: AsyncSession, report_id: UUID) -> Parts:
    rows = await session.execute(select(Section.name, Section.part).where(Section.report_id == report_id))
    try:
        return from_json({row.name: row.part for row in rows})
    except msgspec.ValidationError as error:
        raise Fail(f"the sections of report {report_id} do not make a page: {error}") from error
