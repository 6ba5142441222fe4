import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from outboxkit import enqueue
from outboxkit.tables import dead_letters, jobs
from outboxkit.testing import assert_enqueued, run_jobs
from outboxkit_reports import handlers, lifecycle, views
from outboxkit_reports.jobs import locked
from outboxkit_reports.lifecycle import NewReport
from outboxkit_reports.sections import SECTIONS
from outboxkit_reports.tables import Report
from outboxkit_reports.views import ReportView

RunJob = Callable[[UUID], Awaitable[None]]


async def created(engine: AsyncEngine, csv: bytes) -> UUID:
    """A committed report."""
    async with AsyncSession(engine) as session, session.begin():
        return await lifecycle.create(session, NewReport("Five companies", csv))


async def seen(engine: AsyncEngine, report_id: UUID) -> ReportView:
    """The report as the API shows it."""
    async with AsyncSession(engine) as session:
        view = await views.one(session, report_id)
    assert view is not None
    return view


async def queued(engine: AsyncEngine, kind: str) -> Sequence[UUID]:
    """The queued jobs of a kind."""
    async with AsyncSession(engine) as session:
        wanted = select(jobs.c.id).where(jobs.c.kind == kind, jobs.c.state == "queued").order_by(jobs.c.id)
        return (await session.scalars(wanted)).all()


async def fanned_out(engine: AsyncEngine, csv: bytes, run_job: RunJob) -> tuple[UUID, Sequence[UUID]]:
    """A report whose sections are queued, and their jobs."""
    report_id = await created(engine, csv)
    await run_job((await seen(engine, report_id)).jobs[0].id)
    return report_id, await queued(engine, "RUN_SECTION")


async def set_state(engine: AsyncEngine, job_id: UUID, state: str) -> None:
    """What a sweep or another worker would do to a job."""
    async with engine.begin() as connection:
        await connection.execute(update(jobs).where(jobs.c.id == job_id).values(state=state))


async def test_a_report_runs_from_start_to_document(engine: AsyncEngine, stocks: bytes) -> None:
    """START_RUN, four sections and FINISH_RUN, and the page holds the figures."""
    async with AsyncSession(engine) as session:
        report_id = await lifecycle.create(session, NewReport("Five companies", stocks))
        await assert_enqueued(session, "START_RUN", {"report_id": str(report_id)})
        ran = await run_jobs(session, handlers)
        assert [job.kind for job in ran] == ["START_RUN", *["RUN_SECTION"] * 4, "FINISH_RUN"]
        assert {job.state for job in ran} == {"succeeded"}
        document = await session.scalar(select(Report.document).where(Report.id == report_id))
        assert document is not None
        assert "<h1>Five companies</h1>" in document
        assert "+759.8%" in document
        view = await views.one(session, report_id)
        assert view is not None
        assert (view.state, view.sections_done) == ("succeeded", len(SECTIONS))
        assert [job.section for job in view.jobs] == [None, *SECTIONS, None]


async def test_state_follows_the_jobs(engine: AsyncEngine, stocks: bytes, run_job: RunJob) -> None:
    """Queued until START_RUN runs, running until the document is there, with every section's progress between."""
    report_id = await created(engine, stocks)
    view = await seen(engine, report_id)
    assert view.state == "queued"
    assert {section.state for section in view.sections} == {"pending"}
    await run_job(view.jobs[0].id)
    view = await seen(engine, report_id)
    assert view.state == "running"
    assert {section.state for section in view.sections} == {"queued"}
    for done, job_id in enumerate(await queued(engine, "RUN_SECTION"), start=1):
        await run_job(job_id)
        view = await seen(engine, report_id)
        assert (view.state, view.sections_done) == ("running", done)
    assert await queued(engine, "FINISH_RUN") == [view.jobs[-1].id]
    await run_job(view.jobs[-1].id)
    view = await seen(engine, report_id)
    assert view.state == "succeeded"
    assert view.completed_at is not None
    assert all(job.created_at <= job.finished_at for job in view.jobs if job.finished_at)


async def test_sections_that_end_at_once_enqueue_one_finish(
    engine: AsyncEngine, stocks: bytes, run_job: RunJob
) -> None:
    """All four decide under the report's lock: exactly one of them is the last, never none and never two."""
    for _ in range(5):
        report_id, sections = await fanned_out(engine, stocks, run_job)
        await asyncio.gather(*(run_job(job_id) for job_id in sections))
        (finish,) = await queued(engine, "FINISH_RUN")
        await run_job(finish)
        assert (await seen(engine, report_id)).state == "succeeded"


async def waiting_for_a_lock(engine: AsyncEngine) -> int:
    """How many connections to this database wait for a row; a new look each time, as a transaction sees only one."""
    sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    async with engine.connect() as connection:
        return await connection.scalar(text(sql)) or 0


async def test_the_last_section_waits_for_the_one_before(engine: AsyncEngine, stocks: bytes, run_job: RunJob) -> None:
    """While somebody holds the report's row no section completes; then they do, and see each other."""
    report_id, sections = await fanned_out(engine, stocks, run_job)
    for job_id in sections[:2]:
        await run_job(job_id)
    async with AsyncSession(engine) as holder, holder.begin():
        await locked(holder, report_id)
        running = [asyncio.create_task(run_job(job_id)) for job_id in sections[2:]]
        async with asyncio.timeout(20):
            while await waiting_for_a_lock(engine) < 2:
                assert not any(task.done() for task in running), "a section decided without the lock"
                await asyncio.sleep(0.01)
        assert (await seen(engine, report_id)).sections_done == 2
    await asyncio.gather(*running)
    assert len(await queued(engine, "FINISH_RUN")) == 1


async def test_a_repeated_section_counts_once(engine: AsyncEngine, stocks: bytes, run_job: RunJob) -> None:
    """A job that runs twice neither completes the report early nor finishes it twice."""
    report_id, sections = await fanned_out(engine, stocks, run_job)
    await run_job(sections[0])
    once = (await seen(engine, report_id)).sections
    for _ in range(3):
        await run_job(sections[0])
    assert (await seen(engine, report_id)).sections == once, "the first part is kept"
    assert (await seen(engine, report_id)).sections_done == 1
    assert await queued(engine, "FINISH_RUN") == []
    for job_id in [*sections, *sections]:
        await run_job(job_id)
    assert len(await queued(engine, "FINISH_RUN")) == 1


async def test_a_repeated_start_fans_out_once(engine: AsyncEngine, stocks: bytes, run_job: RunJob) -> None:
    """START_RUN that runs again finds its sections and their jobs."""
    report_id, sections = await fanned_out(engine, stocks, run_job)
    await run_job((await seen(engine, report_id)).jobs[0].id)
    assert await queued(engine, "RUN_SECTION") == sections


async def test_a_failed_attempt_leaves_nothing(engine: AsyncEngine, stocks: bytes) -> None:
    """What START_RUN wrote and enqueued is gone when its transaction is: no section, no job."""
    report_id = await created(engine, stocks)
    async with AsyncSession(engine) as session:
        assert await run_jobs(session, handlers)
        await session.rollback()
    view = await seen(engine, report_id)
    assert (view.state, len(view.jobs)) == ("queued", 1)
    assert await queued(engine, "RUN_SECTION") == []


async def test_bad_data_fail_the_report_for_good(engine: AsyncEngine) -> None:
    """Prices that got past the edge end in a dead letter that says what is wrong, not in retries."""
    async with AsyncSession(engine) as session:
        report_id = await lifecycle.create(session, NewReport("Bad", b"date,symbol,price\n2000-01-01,A,-1\n"))
        (ran,) = await run_jobs(session, handlers)
        assert ran.state == "failed"
        assert 'row 2, price: "-1" is not a positive price' in ran.reason
        view = await views.one(session, report_id)
        assert view is not None
        assert view.state == "failed"
        assert await session.scalar(select(dead_letters.c.kind)) == "START_RUN"


async def test_a_job_of_no_report_fails_for_good(engine: AsyncEngine) -> None:
    """An id that nobody knows is no reason to try again."""
    async with AsyncSession(engine) as session:
        for kind, extra in [("START_RUN", {}), ("RUN_SECTION", {"section": "risk"}), ("FINISH_RUN", {})]:
            await enqueue(session, kind, {"report_id": str(uuid4())} | extra)
        await enqueue(session, "RUN_SECTION", {"report_id": str(uuid4()), "section": "nonsense"})
        assert {job.state for job in await run_jobs(session, handlers)} == {"failed"}


async def test_a_swept_section_fails_the_report_until_it_is_replayed(
    engine: AsyncEngine, stocks: bytes, run_job: RunJob
) -> None:
    """Where a sweep fails a job no code of ours runs: the state is derived. Replaying the section completes the report."""
    report_id, sections = await fanned_out(engine, stocks, run_job)
    await set_state(engine, sections[1], "failed")
    for job_id in [sections[0], *sections[2:]]:
        await run_job(job_id)
    view = await seen(engine, report_id)
    assert (view.state, view.sections_done) == ("failed", 3)
    assert [section.state for section in view.sections].count("failed") == 1
    await set_state(engine, sections[1], "queued")
    await run_job(sections[1])
    (finish,) = await queued(engine, "FINISH_RUN")
    await run_job(finish)
    assert (await seen(engine, report_id)).state == "succeeded"


async def test_cancelling_stops_every_job(engine: AsyncEngine, stocks: bytes, run_job: RunJob) -> None:
    """Queued sections are cancelled at once, a running one is asked; whatever still runs writes nothing."""
    report_id, sections = await fanned_out(engine, stocks, run_job)
    await set_state(engine, sections[0], "running")
    async with AsyncSession(engine) as session, session.begin():
        assert await lifecycle.cancel(session, report_id)
    view = await seen(engine, report_id)
    assert view.state == "cancelled"
    assert sorted(job.state for job in view.jobs) == ["cancelled"] * 3 + ["running", "succeeded"]
    async with AsyncSession(engine) as session:
        asked = await session.scalar(select(jobs.c.cancel_requested_at).where(jobs.c.id == sections[0]))
        assert asked is not None
    await run_job(sections[0])
    view = await seen(engine, report_id)
    assert (view.state, view.sections_done) == ("cancelled", 0)


async def test_a_start_after_a_cancellation_fans_out_nothing(
    engine: AsyncEngine, stocks: bytes, run_job: RunJob
) -> None:
    """START_RUN that was under way when the report was cancelled enqueues no section."""
    report_id = await created(engine, stocks)
    (start,) = (await seen(engine, report_id)).jobs
    await set_state(engine, start.id, "running")
    async with AsyncSession(engine) as session, session.begin():
        await lifecycle.cancel(session, report_id)
    await run_job(start.id)
    view = await seen(engine, report_id)
    assert view.state == "cancelled"
    assert [job.id for job in view.jobs] == [start.id]


async def test_jobs_are_cancelled_in_ascending_id(engine: AsyncEngine, stocks: bytes, run_job: RunJob) -> None:
    """The lock order of the kit: two that cancel or claim the same jobs wait for each other and never deadlock."""
    report_id, _ = await fanned_out(engine, stocks, run_job)
    asked: list[UUID] = []

    def note(_: object, __: object, statement: str, parameters: dict[str, UUID], *___: object) -> None:
        if "cancel_requested_at" in statement:
            asked.append(parameters["id"])

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    async with AsyncSession(engine) as session, session.begin():
        await lifecycle.cancel(session, report_id)
    assert len(asked) == 5
    assert asked == sorted(asked)


async def test_cancelling_and_completing_at_once_never_deadlock(
    engine: AsyncEngine, stocks: bytes, run_job: RunJob
) -> None:
    """Both lock the report first, then jobs: whichever comes second waits, and the report ends cancelled."""

    async def cancel(report_id: UUID) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await lifecycle.cancel(session, report_id)

    for _ in range(5):
        report_id, sections = await fanned_out(engine, stocks, run_job)
        await asyncio.gather(*(run_job(job_id) for job_id in sections[:2]), cancel(report_id))
        assert (await seen(engine, report_id)).state == "cancelled"


async def test_a_finish_after_a_cancellation_stores_no_document(
    engine: AsyncEngine, stocks: bytes, run_job: RunJob
) -> None:
    """A cancelled report stays without a document, also when FINISH_RUN was under way."""
    report_id, sections = await fanned_out(engine, stocks, run_job)
    for job_id in sections:
        await run_job(job_id)
    (finish,) = await queued(engine, "FINISH_RUN")
    async with AsyncSession(engine) as session, session.begin():
        await lifecycle.cancel(session, report_id)
    await run_job(finish)
    view = await seen(engine, report_id)
    assert (view.state, view.completed_at) == ("cancelled", None)


async def test_a_completed_report_cannot_be_cancelled(engine: AsyncEngine, stocks: bytes) -> None:
    """It is too late, and the caller is told."""
    async with AsyncSession(engine) as session:
        report_id = await lifecycle.create(session, NewReport("Done", stocks))
        await run_jobs(session, handlers)
        with pytest.raises(lifecycle.Completed):
            await lifecycle.cancel(session, report_id)


async def test_a_look_at_a_report_finds_its_jobs_by_key(engine: AsyncEngine, stocks: bytes) -> None:
    """The overview reads jobs by their primary key, also when there are very many of them."""
    report_id = await created(engine, stocks)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("set local enable_seqscan = off")
        statement = views._overview().where(Report.id == report_id)
        compiled = statement.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True})
        lines = (await connection.exec_driver_sql(f"explain {str(compiled).replace('%', '%%')}")).scalars().all()
    plan = "\n".join(lines)
    assert "Scan using jobs_pkey" in plan or "on jobs_pkey" in plan, plan
    assert "Seq Scan on jobs" not in plan
