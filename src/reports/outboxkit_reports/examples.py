"""What the API's document shows: one report in the states it goes through, and a file to begin with."""

from __future__ import annotations

import datetime as dt
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from outboxkit_reports.sections import SECTIONS
from outboxkit_reports.views import Cursor, JobView, ReportPage, ReportView, SectionView

TITLE: Final = "Two companies"
CSV: Final = (
    "date,symbol,price\n2000-01-01,AAPL,25.94\n2000-02-01,AAPL,28.66\n2000-01-01,IBM,100.52\n2000-02-01,IBM,92.11\n"
)

REPORT_ID: Final = UUID("0d1c7b52-9f0e-4c5a-8a57-3f1e6c2b9d40")
_BEGAN: Final = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def _at(seconds: float) -> dt.datetime:
    return _BEGAN + dt.timedelta(seconds=seconds)


def _job(number: int, kind: str, section: str | None = None) -> JobView:
    return JobView(
        id=UUID(int=0x0198C5A2_7C3E_7B11_9D5F_3F6A1C2B4D50 + number),
        kind=kind,
        section=section,
        state="queued",
        attempt=0,
        created_at=_at(0 if kind == "START_RUN" else 0.1 * number),
        started_at=None,
        finished_at=None,
        reason=None,
    )


def _succeeded(job: JobView) -> JobView:
    started, finished = (job.created_at + dt.timedelta(seconds=after) for after in (0.01, 0.05))
    return replace(job, state="succeeded", attempt=1, started_at=started, finished_at=finished)


_START: Final = _job(0, "START_RUN")
_RUNS: Final = tuple(_job(number, "RUN_SECTION", name) for number, name in enumerate(SECTIONS, 1))
_FINISH: Final = _job(len(SECTIONS) + 1, "FINISH_RUN")

QUEUED: Final = ReportView(
    id=REPORT_ID,
    title=TITLE,
    state="queued",
    created_at=_at(0),
    completed_at=None,
    cancelled_at=None,
    sections_done=0,
    sections=tuple(SectionView(name, "pending", None) for name in SECTIONS),
    jobs=(_START,),
)
SUCCEEDED: Final = replace(
    QUEUED,
    state="succeeded",
    completed_at=_at(0.6),
    sections_done=len(SECTIONS),
    sections=tuple(SectionView(name, "succeeded", _at(0.5)) for name in SECTIONS),
    jobs=tuple(_succeeded(job) for job in (_START, *_RUNS, _FINISH)),
)
FAILED: Final = replace(
    QUEUED,
    state="failed",
    jobs=(replace(_succeeded(_START), state="failed", attempt=5, reason="TimeoutError: the handler ran for 60 s"),),
)
CANCELLED: Final = replace(
    QUEUED, state="cancelled", cancelled_at=_at(2), jobs=(replace(_START, state="cancelled", finished_at=_at(2)),)
)

CURSOR: Final = Cursor(QUEUED.created_at, QUEUED.id).encode()
PAGE: Final = ReportPage((QUEUED,), CURSOR)
