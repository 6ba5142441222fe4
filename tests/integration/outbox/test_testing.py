# ruff: noqa: ARG001 (a handler takes both, whether it needs them or not)
"""outboxkit.testing, which adopters' own tests rely on: run what was enqueued, commit nothing."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from outboxkit import Fail, Handlers, Job, Retry, enqueue
from outboxkit.testing import assert_enqueued, run_jobs

handlers = Handlers()


class Count(msgspec.Struct):
    """How far to count down."""

    n: int


@handlers.register("COUNT_DOWN")
async def count_down(payload: Count, job: Job) -> int:
    """Write a row, and enqueue the next."""
    await job.session.execute(text("insert into counted values (:n)"), {"n": payload.n})
    if payload.n:
        await job.enqueue("COUNT_DOWN", Count(payload.n - 1))
    return payload.n


@handlers.register("FAIL", max_attempts=3)
async def fail(payload: dict[str, Any], job: Job) -> None:
    """Write a row, and give up."""
    await job.session.execute(text("insert into counted values (7)"))
    raise Fail("no use")


@handlers.register("RETRY", max_attempts=2)
def retry(payload: dict[str, Any], job: Job) -> None:
    """Ask for another try at once."""
    job.progress(1, 2)
    raise Retry("again", after=0)


@handlers.register("LATER")
async def later(payload: dict[str, Any], job: Job) -> None:
    """Ask for another try in a minute."""
    raise Retry("later", after=60)


@handlers.register("BUG")
async def bug(payload: dict[str, Any], job: Job) -> None:
    """Break."""
    raise ZeroDivisionError


@handlers.register("ENDLESS")
async def endless(payload: dict[str, Any], job: Job) -> None:
    """Enqueue itself."""
    await job.enqueue("ENDLESS")


@pytest.fixture
async def session(engine: AsyncEngine) -> Any:
    """A session that is rolled back, in a database with a table of the application's."""
    async with engine.begin() as connection:
        await connection.execute(text("create table counted (n int)"))
    async with AsyncSession(engine) as made:
        yield made


async def _counted(session: AsyncSession) -> list[int]:
    return list((await session.execute(text("select n from counted order by n"))).scalars())


async def test_runs_what_was_enqueued(session: AsyncSession, engine: AsyncEngine) -> None:
    """Jobs and the jobs they enqueue are run in order, in the test's own transaction, which its rollback undoes."""
    await enqueue(session, "COUNT_DOWN", Count(2))
    ran = await run_jobs(session, handlers)
    assert [(one.kind, one.state) for one in ran] == [("COUNT_DOWN", "succeeded")] * 3
    assert await _counted(session) == [0, 1, 2]
    await session.rollback()
    async with engine.connect() as connection:
        assert (await connection.execute(text("select count(*) from outboxkit.jobs"))).scalar() == 0
        assert (await connection.execute(text("select count(*) from counted"))).scalar() == 0


async def test_failure_rolls_its_own_work_back(session: AsyncSession) -> None:
    """A Fail ends the job with its dead letter, and what the handler wrote is gone."""
    await enqueue(session, "FAIL")
    (ran,) = await run_jobs(session, handlers)
    assert (ran.state, ran.reason) == ("failed", "Fail: no use")
    assert await _counted(session) == []
    assert (await session.execute(text("select count(*) from outboxkit.dead_letters"))).scalar() == 1


async def test_retries(session: AsyncSession) -> None:
    """A Retry is tried again while attempts remain; one for later is not waited for."""
    await enqueue(session, "RETRY")
    await enqueue(session, "LATER")
    ran = await run_jobs(session, handlers)
    assert sorted((one.kind, one.state) for one in ran) == [
        ("LATER", "queued"),
        ("RETRY", "failed"),
        ("RETRY", "queued"),
    ]
    await assert_enqueued(session, "LATER")


async def test_payload_that_is_refused(session: AsyncSession) -> None:
    """A payload that is not the handler's fails the job, as in production."""
    await enqueue(session, "COUNT_DOWN", {"n": "many"})
    (ran,) = await run_jobs(session, handlers)
    assert ran.state == "failed"
    assert "InvalidPayload" in ran.reason


async def test_bugs_are_raised(session: AsyncSession) -> None:
    """Any other exception is the test's to see."""
    await enqueue(session, "BUG")
    with pytest.raises(ZeroDivisionError):
        await run_jobs(session, handlers)


async def test_endless(session: AsyncSession) -> None:
    """A job that enqueues itself is noticed."""
    await enqueue(session, "ENDLESS")
    with pytest.raises(RuntimeError, match="does a job enqueue itself"):
        await run_jobs(session, handlers, limit=5)


async def test_assert_enqueued(session: AsyncSession) -> None:
    """Counts what is queued by kind, payload and key, and otherwise lists what is there."""
    first = await enqueue(session, "A", {"n": 1, "m": 2})
    second = await enqueue(session, "A", {"n": 2}, unique_key="key")
    assert sorted(await assert_enqueued(session, "A", count=2)) == sorted([first, second])
    assert await assert_enqueued(session, "A", {"n": 1}) == [first]
    assert await assert_enqueued(session, "A", unique_key="key") == [second]
    assert await assert_enqueued(session, "B", count=0) == []
    with pytest.raises(AssertionError, match=r"1 queued A jobs like that, wanted 2; queued are:\n  A .*\n  A .*key"):
        await assert_enqueued(session, "A", {"n": 2}, count=2)
