"""Cancelling jobs, in the caller's transaction."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from sqlalchemy import TextClause, text

from outboxkit import queries

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


class Cancellation(msgspec.Struct, frozen=True):
    """The job's state now, and whether this call changed anything or asked a running job to stop."""

    state: str
    asked: bool


async def cancel(session: AsyncSession | AsyncConnection, job_id: UUID) -> Cancellation | None:
    """Cancel a queued job, or ask a running one to stop; None when there is no such job.

    Takes effect with the caller's commit. A running job ends as cancelled when its handler returns early, retries, or loses
    its lease; one that succeeds first stays succeeded. Several jobs: cancel them in ascending id (lock order).
    """
    row = (await session.execute(_statement(), {"id": job_id})).first()
    return None if row is None else Cancellation(*row)


@cache
def _statement() -> TextClause:
    return text(queries.load("cancel_job").decode().replace("%(id)s", "cast(:id as uuid)"))
