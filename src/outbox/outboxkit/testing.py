"""For an adopter's own tests: look at what was enqueued, and run it, inside a transaction that the test rolls back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, RowMapping, delete, func, insert, select, update

from outboxkit import payload as payloads
from outboxkit.clipping import describe
from outboxkit.handlers import Fail, Handler, Handlers, InvalidPayload, Retry
from outboxkit.job import Job, Progress
from outboxkit.payload import Payload
from outboxkit.tables import dead_letters, jobs, outbox

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Ran(msgspec.Struct, frozen=True):
    """One attempt that `run_jobs` made, and the state it left the job in."""

    job_id: UUID
    kind: str
    state: str
    reason: str = ""


async def assert_enqueued(
    session: AsyncSession, kind: str, payload: Payload = None, *, unique_key: str | None = None, count: int = 1
) -> list[UUID]:
    """Assert that exactly `count` jobs of this kind are queued as this session sees it; returns their ids.

    With a payload, those whose payload holds at least these members; with a unique_key, the one that has it. The
    AssertionError lists what is queued instead.
    """
    wanted: list[ColumnElement[bool]] = [jobs.c.kind == kind, jobs.c.state == "queued"]
    if payload is not None:
        wanted.append(jobs.c.payload.contains(msgspec.json.decode(payloads.encode(payload))))
    if unique_key is not None:
        wanted.append(jobs.c.unique_key == unique_key)
    found = (await session.execute(select(jobs.c.id).where(*wanted).order_by(jobs.c.id))).scalars().all()
    if len(found) != count:
        queued = select(jobs.c.kind, jobs.c.payload, jobs.c.unique_key).where(jobs.c.state == "queued")
        lines = [f"  {row.kind} {row.payload} unique_key={row.unique_key}" for row in await session.execute(queued)]
        raise AssertionError(
            f"{len(found)} queued {kind} jobs like that, wanted {count}; queued are:\n" + ("\n".join(lines) or "  none")
        )
    return list(found)


async def run_jobs(session: AsyncSession, handlers: Handlers, *, app: Any = None, limit: int = 1000) -> list[Ran]:
    """Run every due job this session sees, and the jobs they enqueue, one after another, in the session's transaction.

    Nothing is committed: the caller's rollback undoes the jobs and all that they did. `job.session` is `session` in a
    savepoint, which a Retry or Fail rolls back. Any other exception of a handler is raised, as a test wants it. A job
    retried for later is not waited for. Raises RuntimeError after `limit` attempts (a job that enqueues itself).
    """
    ran: list[Ran] = []
    while (job := await _claim(session, handlers)) is not None:
        if len(ran) >= limit:
            raise RuntimeError(f"run_jobs made {limit} attempts and there is still work; does a job enqueue itself?")
        handler = handlers.get(job["kind"])
        assert handler is not None  # noqa: S101 (claimed by kind)
        ran.append(await _attempt(session, handler, job, app))
    return ran


class _Attempt:
    """The `Attempt` of a test: the test's own session, and progress that is only remembered."""

    cancelled = False

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self.progress: Progress | None = None

    def report(self, progress: Progress) -> None:
        self.progress = progress


async def _claim(session: AsyncSession, handlers: Handlers) -> RowMapping | None:
    due = (
        select(jobs)
        .where(jobs.c.state == "queued", jobs.c.run_at <= func.clock_timestamp(), jobs.c.kind.in_(handlers.kinds()))
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(1)
    )
    row: RowMapping | None = (await session.execute(due)).mappings().first()
    if row is None:
        return None
    handler = handlers.get(row["kind"])
    limit = row["max_attempts"] or (handler.max_attempts if handler else 1)
    await session.execute(delete(outbox).where(outbox.c.job_id == row["id"]))
    claimed = (
        update(jobs)
        .where(jobs.c.id == row["id"])
        .values(state="running", attempt=jobs.c.attempt + 1, max_attempts=limit, started_at=func.clock_timestamp())
        .returning(jobs)
    )
    return cast("RowMapping", (await session.execute(claimed)).mappings().one())


async def _attempt(session: AsyncSession, handler: Handler, row: RowMapping, app: Any) -> Ran:
    names = ("id", "kind", "queue", "attempt", "max_attempts", "created_at", "traceparent")
    job = Job(**{name: row[name] for name in names}, app=app, _attempt=_Attempt(session))
    try:
        async with session.begin_nested():
            payload = handler.decode(msgspec.json.encode(row["payload"]).decode())
            result = await _call(handler, payload, job)
    except Retry as retry:
        final = job.attempt >= job.max_attempts
        return await _end(session, row, retry.reason, final=final, after=retry.after or 0.0)
    except (Fail, InvalidPayload) as failure:
        return await _end(session, row, describe(failure), final=True)
    outcome = None if result is None else msgspec.json.decode(payloads.encode_value(result, name="result"))
    await _set(session, row["id"], state="succeeded", result=outcome, finished_at=func.clock_timestamp())
    return Ran(row["id"], row["kind"], "succeeded")


async def _call(handler: Handler, payload: Any, job: Job) -> Any:
    if handler.is_async:
        return await handler.function(payload, job)
    return await asyncio.to_thread(handler.function, payload, job)


async def _end(session: AsyncSession, row: RowMapping, reason: str, *, final: bool, after: float = 0.0) -> Ran:
    if not final:
        due = func.clock_timestamp() + timedelta(seconds=after)
        await _set(session, row["id"], state="queued", run_at=due)
        trigger = {name: row[name] for name in ("queue", "kind", "traceparent")}
        await session.execute(
            insert(outbox).values(job_id=row["id"], due_at=due, created_at=func.clock_timestamp(), **trigger)
        )
        return Ran(row["id"], row["kind"], "queued", reason)
    await _set(session, row["id"], state="failed", finished_at=func.clock_timestamp())
    letter = {"job_id": row["id"], "queue": row["queue"], "kind": row["kind"], "stage": "job", "reason": reason}
    await session.execute(
        insert(dead_letters).values(attempts=row["attempt"], died_at=func.clock_timestamp(), **letter)
    )
    return Ran(row["id"], row["kind"], "failed", reason)


async def _set(session: AsyncSession, job_id: UUID, **values: Any) -> None:
    await session.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
