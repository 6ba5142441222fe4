"""The sample application's two tables, in a schema of their own.

A report has no state column: whether it is queued, running or failed is what its jobs say (a sweep may fail a job where
no application code runs), and `views` derives it. Only what jobs cannot tell is kept here.

The job columns are plain ids without a foreign key: retention deletes finished jobs, and a foreign key would make every
insert of a section lock a job's row, before the worker does and in another order.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import TIMESTAMP, ForeignKey, Index, LargeBinary, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = "reports"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)


class Base(DeclarativeBase):
    """What the tables of this application share."""

    metadata = metadata
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's way to say it)
        dt.datetime: TIMESTAMP(timezone=True),
        str: Text,
        dict[str, Any]: JSONB,
    }


class Report(Base):
    """One upload and what became of it. Its row is the lock for everything decided about the report."""

    __tablename__ = "reports"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    title: Mapped[str]
    # Deferred: nobody who only looks at a report's progress reads megabytes.
    csv: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())
    start_job: Mapped[UUID]
    finish_job: Mapped[UUID | None]
    document: Mapped[str | None] = mapped_column(deferred=True)
    completed_at: Mapped[dt.datetime | None]
    cancelled_at: Mapped[dt.datetime | None]

    __table_args__ = (Index("reports_newest", "created_at", "id"),)


class Section(Base):
    """One section of a report: written by fan-out, completed once by its job."""

    __tablename__ = "sections"

    report_id: Mapped[UUID] = mapped_column(ForeignKey(Report.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[UUID]
    part: Mapped[dict[str, Any] | None]
    completed_at: Mapped[dt.datetime | None]
