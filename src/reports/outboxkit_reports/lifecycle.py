"""How a report begins and how a person ends it: each in the caller's transaction."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from outboxkit import enqueue
from outboxkit.cancellation import cancel as cancel_job
from outboxkit_reports.jobs import StartRun, locked
from outboxkit_reports.tables import Report, Section


class Completed(Exception):  # noqa: N818 (names what was found)
    """The report is done; there is nothing left to cancel."""


class NewReport(msgspec.Struct, frozen=True):
    """What a client sends: a title, and the price file."""

    title: str
    csv: bytes

    def fingerprint(self) -> bytes:
        """What makes two requests the same, however they were spelt (JSON, or multipart with any boundary)."""
        return self.title.encode() + b"\0" + self.csv


async def create(session: AsyncSession, new: NewReport) -> UUID:
    """Store the upload and enqueue START_RUN, in one transaction: the caller's. The data have been checked.

    If the process dies before the commit there is neither report nor job; after it, both.
    """
    report_id = uuid4()
    job_id = await enqueue(session, "START_RUN", StartRun(report_id))
    session.add(Report(id=report_id, title=new.title, csv=new.csv, start_job=job_id))
    await session.flush()
    return report_id


async def cancel(session: AsyncSession, report_id: UUID) -> bool:
    """Cancel a report and its jobs: the queued ones at once, the running ones asked. False if there is no such report.

    From the commit on no job of it writes anything more. Cancelling again changes nothing. Raises Completed when it is
    too late. The report's row is locked first, then the jobs' in ascending id, as everywhere.
    """
    report = await locked(session, report_id)
    if report is None:
        return False
    if report.completed_at is not None:
        raise Completed
    if report.cancelled_at is None:
        report.cancelled_at = await session.scalar(select(func.clock_timestamp()))
        await session.flush()
    for job_id in sorted(await _job_ids(session, report)):
        await cancel_job(session, job_id)
    return True


async def _job_ids(session: AsyncSession, report: Report) -> set[UUID]:
    of_sections = await session.scalars(select(Section.job_id).where(Section.report_id == report.id))
    return {report.start_job, *of_sections, *filter(None, [report.finish_job])}
