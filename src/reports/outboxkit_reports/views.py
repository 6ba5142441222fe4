"""What the API says about a report: one consistent look at its row, its sections and its jobs."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy import RowMapping, Select, any_, func, select, tuple_
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.ext.asyncio import AsyncSession

from outboxkit.tables import jobs
from outboxkit_reports.sections import SECTIONS
from outboxkit_reports.tables import Report, Section

JobState: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
State: TypeAlias = JobState
SectionState: TypeAlias = Literal["pending", "queued", "running", "succeeded", "failed", "cancelled"]

CURSOR_PATTERN: Final = "^[0-9a-f]{46}$"
"""Every text of this shape is a place in the list, and no other text is."""

_MICROSECOND: Final = dt.timedelta(microseconds=1)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_HEX_OF_TIME: Final = 14  # microseconds up to the year 4253


class JobView(msgspec.Struct, frozen=True, rename="camel"):
    """One job of a report. Created when the request committed, started when its trigger arrived, then finished."""

    id: UUID
    kind: str
    section: str | None
    state: JobState
    attempt: Annotated[int, msgspec.Meta(ge=0, description="How often it was started.")]
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    reason: Annotated[str | None, msgspec.Meta(description="Why the last attempt failed, if one did.")]


class SectionView(msgspec.Struct, frozen=True, rename="camel"):
    """One section: `pending` until START_RUN has fanned out, then as its job is."""

    name: str
    state: SectionState
    completed_at: dt.datetime | None


class ReportView(msgspec.Struct, frozen=True, rename="camel"):
    """A report as the API shows it."""

    id: UUID
    title: str
    state: State
    created_at: dt.datetime
    completed_at: dt.datetime | None
    cancelled_at: dt.datetime | None
    sections_done: Annotated[int, msgspec.Meta(ge=0)]
    sections: tuple[SectionView, ...]
    jobs: tuple[JobView, ...]


class ReportPage(msgspec.Struct, frozen=True, rename="camel"):
    """Some reports, newest first."""

    items: tuple[ReportView, ...]
    next: Annotated[
        str | None, msgspec.Meta(description="The cursor of the page after this one; null when this is the last.")
    ]


class Cursor(NamedTuple):
    """A place in the list of reports: those made before this one come after it."""

    created_at: dt.datetime
    id: UUID

    def encode(self) -> str:
        """The cursor as a client sees it, which is opaque: the microseconds since 1970 and the id, in hexadecimal."""
        return f"{(self.created_at - _EPOCH) // _MICROSECOND:0{_HEX_OF_TIME}x}{self.id.hex}"

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The cursor again; ValueError if it is none of ours."""
        if not re.fullmatch(CURSOR_PATTERN, text):
            raise ValueError("not a cursor")
        return cls(_EPOCH + int(text[:_HEX_OF_TIME], 16) * _MICROSECOND, UUID(text[_HEX_OF_TIME:]))


async def one(session: AsyncSession, report_id: UUID) -> ReportView | None:
    """The report, or None."""
    row = (await session.execute(_overview().where(Report.id == report_id))).mappings().first()
    return None if row is None else _view(row)


async def newest(session: AsyncSession, *, limit: int, after: Cursor | None = None) -> ReportPage:
    """A page of reports, newest first, beginning after the cursor."""
    wanted = _overview().order_by(Report.created_at.desc(), Report.id.desc()).limit(limit + 1)
    if after is not None:
        wanted = wanted.where(tuple_(Report.created_at, Report.id) < tuple_(*after))
    rows = (await session.execute(wanted)).mappings().all()
    items = tuple(_view(row) for row in rows[:limit])
    cursor = Cursor(items[-1].created_at, items[-1].id).encode() if len(rows) > limit else None
    return ReportPage(items, cursor)


def state_of(*, completed: bool, cancelled: bool, jobs: Sequence[tuple[JobState, int]]) -> State:
    """The state of a report from what its row says and from its jobs, each with its state and attempt.

    A failed job fails the report until it is replayed. A report that is neither done nor has a job left that could
    finish it (retention has deleted a cancelled one) counts as failed: nothing will ever complete it.
    """
    states = {state for state, _ in jobs}
    if completed:
        return "succeeded"
    if cancelled:
        return "cancelled"
    if "failed" in states or not states:
        return "failed"
    if "cancelled" in states:
        return "cancelled"
    if not states & {"queued", "running"}:
        return "failed"
    return "queued" if all(job == ("queued", 0) for job in jobs) else "running"


def _overview() -> Select[Any]:
    """One statement, so that row, sections and jobs are of one moment: between two, a report could look abandoned."""
    sections = (
        select(
            func.jsonb_object_agg(
                Section.name, func.jsonb_build_object("job_id", Section.job_id, "completed_at", Section.completed_at)
            )
        )
        .where(Section.report_id == Report.id)
        .correlate(Report)
        .scalar_subquery()
    )
    return select(
        Report.id,
        Report.title,
        Report.created_at,
        Report.completed_at,
        Report.cancelled_at,
        func.coalesce(sections, func.jsonb_build_object()).label("sections"),
        _jobs().label("jobs"),
    )


def _jobs() -> Any:
    of_sections = func.array(
        select(Section.job_id).where(Section.report_id == Report.id).correlate(Report).scalar_subquery()
    )
    # One array to compare with, not three conditions joined by OR: it is what lets Postgres use the primary key.
    ids = array([Report.start_job, Report.finish_job]).concat(of_sections)
    listed = func.jsonb_build_object(
        "id", jobs.c.id, "kind", jobs.c.kind, "state", jobs.c.state, "attempt", jobs.c.attempt,
        "createdAt", jobs.c.created_at, "startedAt", jobs.c.started_at, "finishedAt", jobs.c.finished_at,
        "reason", jobs.c.errors[-1]["reason"].astext,
    )  # fmt: skip
    return (
        select(func.coalesce(func.jsonb_agg(listed), func.jsonb_build_array()))
        .where(jobs.c.id == any_(ids))
        .correlate(Report)
        .scalar_subquery()
    )


def _view(row: RowMapping) -> ReportView:
    sections: Mapping[str, Any] = row["sections"]
    names = {section["job_id"]: name for name, section in sections.items()}
    order = ("START_RUN", *SECTIONS, "FINISH_RUN")
    found = [msgspec.convert(job | {"section": names.get(job["id"])}, JobView) for job in row["jobs"]]
    found.sort(key=lambda job: order.index(job.section or job.kind))
    by_id = {str(job.id): job.state for job in found}
    views = tuple(_section(name, sections.get(name), by_id) for name in SECTIONS)
    state = state_of(
        completed=row["completed_at"] is not None,
        cancelled=row["cancelled_at"] is not None,
        jobs=[(job.state, job.attempt) for job in found],
    )
    return ReportView(
        id=row["id"],
        title=row["title"],
        state=state,
        created_at=row["created_at"],
        completed_at=row["completed_at"],
        cancelled_at=row["cancelled_at"],
        sections_done=sum(section.state == "succeeded" for section in views),
        sections=views,
        jobs=tuple(found),
    )


def _section(name: str, row: Mapping[str, Any] | None, states: Mapping[str, JobState]) -> SectionView:
    if row is None:
        return SectionView(name, "pending", None)
    if row["completed_at"] is not None:
        return SectionView(name, "succeeded", dt.datetime.fromisoformat(row["completed_at"]))
    state = states.get(row["job_id"], "cancelled")
    # A job that succeeded without a part found its report cancelled.
    return SectionView(name, "cancelled" if state == "succeeded" else state, None)
