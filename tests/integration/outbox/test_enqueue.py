"""enqueue, through every kind of session and driver that a producer may have."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from databases import Database
from integration.outbox.wakes import settled
from outboxkit import NewJob, enqueue, enqueue_many, traces
from outboxkit.database import sqlalchemy_url

ASYNC_DRIVERS = ["psycopg", "asyncpg"]
SYNC_DRIVERS = ["psycopg", "psycopg2"]
# Whatever a driver might send in a form of its own.
ARGUMENTS: dict[str, Any] = {
    "run_at": datetime(2031, 2, 3, 4, 5, 6, 789012, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    "unique_key": "ключ: 'quoted' %s :name {}",
    "max_attempts": 7,
    "queue": "reports",
}


@asynccontextmanager
async def async_engine(database: Database, driver: str) -> AsyncIterator[AsyncEngine]:
    """An engine on this driver."""
    made = create_async_engine(sqlalchemy_url(database.url).set(drivername=f"postgresql+{driver}"))
    yield made
    await settled()
    await made.dispose()


@pytest.fixture
def sync_engine(request: pytest.FixtureRequest, database: Database) -> Any:
    """An engine on the driver the test is run with."""
    made = create_engine(sqlalchemy_url(database.url).set(drivername=f"postgresql+{request.param}"))
    yield made
    made.dispose()


def rows(database: Database, table: str) -> list[dict[str, Any]]:
    """The table's rows as committed."""
    with database.sync(row_factory=dict_row) as connection:
        return connection.execute(f"select * from outboxkit.{table} order by 1").fetchall()  # noqa: S608 (our tables)


def check_both_rows(database: Database, job_id: UUID) -> None:
    """Check that one job and one trigger stand, as ARGUMENTS said."""
    (job,) = rows(database, "jobs")
    (trigger,) = rows(database, "outbox")
    assert type(job_id) is UUID
    assert job["id"] == trigger["job_id"] == job_id
    assert (job["kind"], job["payload"], job["state"], job["attempt"]) == ("K", {"n": 1}, "queued", 0)
    assert {name: job[name] for name in ARGUMENTS} == ARGUMENTS
    assert job["run_at"] == trigger["due_at"]
    assert (trigger["kind"], trigger["queue"], trigger["claims"]) == ("K", "reports", 0)
    assert traces.parse(job["traceparent"]) == trigger["traceparent"]


class TestAsync:
    """With an AsyncSession or an AsyncConnection the job's id is awaited."""

    @pytest.mark.parametrize("driver", ASYNC_DRIVERS)
    async def test_session(self, database: Database, driver: str) -> None:
        """A session's transaction writes both rows, with every argument as it was given."""
        async with async_engine(database, driver) as engine, AsyncSession(engine) as session, session.begin():
            job_id = await enqueue(session, "K", {"n": 1}, **ARGUMENTS)
            assert rows(database, "jobs") == rows(database, "outbox") == []
        check_both_rows(database, job_id)

    @pytest.mark.parametrize("driver", ASYNC_DRIVERS)
    async def test_connection(self, database: Database, driver: str) -> None:
        """So does a connection's."""
        async with async_engine(database, driver) as engine, engine.begin() as connection:
            job_id = await enqueue(connection, "K", {"n": 1}, **ARGUMENTS)
        check_both_rows(database, job_id)

    @pytest.mark.parametrize("driver", ASYNC_DRIVERS)
    async def test_many(self, database: Database, driver: str) -> None:
        """enqueue_many returns the ids in the order of its jobs, with and without keys."""
        jobs = [NewJob("K", {"n": n}, unique_key=f"key-{9 - n}" if n % 2 else None) for n in range(10)]
        async with async_engine(database, driver) as engine, engine.begin() as connection:
            ids = await enqueue_many(connection, jobs)
        by_id = {row["id"]: row["payload"]["n"] for row in rows(database, "jobs")}
        assert [by_id[job_id] for job_id in ids] == list(range(10))
        assert {row["job_id"] for row in rows(database, "outbox")} == set(ids)

    async def test_rollback(self, database: Database, engine: AsyncEngine) -> None:
        """A rolled-back transaction leaves neither job nor trigger (G1)."""
        async with AsyncSession(engine) as session:
            await enqueue(session, "K")
            await enqueue_many(session, [NewJob("K"), NewJob("K", unique_key="key")])
            await session.rollback()
        assert rows(database, "jobs") == rows(database, "outbox") == []

    async def test_savepoints(self, database: Database, engine: AsyncEngine) -> None:
        """A savepoint that is released keeps its job, one that is rolled back takes it along."""
        async with AsyncSession(engine) as session, session.begin():
            async with session.begin_nested():
                kept = await enqueue(session, "K")
            savepoint = await session.begin_nested()
            await enqueue(session, "K")
            await savepoint.rollback()
        assert [row["id"] for row in rows(database, "jobs")] == [kept]
        assert [row["job_id"] for row in rows(database, "outbox")] == [kept]
        await settled()

    async def test_one_statement(self, engine: AsyncEngine) -> None:
        """An enqueue is one statement, and enqueue_many one for a thousand jobs."""
        executed = _count(engine.sync_engine)
        async with engine.connect() as connection:
            for expected, call in [
                (1, lambda: enqueue(connection, "K", {"n": 1})),
                (1, lambda: enqueue(connection, "K", {"n": 1}, unique_key="key")),
                (1, lambda: enqueue_many(connection, [NewJob("K")] * 1000)),
                (3, lambda: enqueue_many(connection, [NewJob("K", unique_key=str(n)) for n in range(2001)])),
                (0, lambda: enqueue_many(connection, [])),
            ]:
                executed.clear()
                await call()
                assert len(executed) == expected

    async def test_ten_thousand(self, database: Database, engine: AsyncEngine) -> None:
        """Ten thousand jobs in one transaction, each with its trigger, in the order they were given."""
        async with engine.begin() as connection:
            ids = await enqueue_many(connection, (NewJob("K", {"n": n}) for n in range(10_000)))
        by_id = {row["id"]: row["payload"]["n"] for row in rows(database, "jobs")}
        assert [by_id[job_id] for job_id in ids] == list(range(10_000))
        assert len({row["job_id"] for row in rows(database, "outbox")}) == 10_000
        await settled()

    async def test_keys_in_order_across_statements(
        self, database: Database, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two callers with the same keys in opposite order do not deadlock, also when their jobs fill many statements."""
        # Not by its dotted name, under which the package has the function.
        monkeypatch.setattr(sys.modules["outboxkit.enqueue"], "BULK", 1)
        jobs = [NewJob("K", unique_key=f"key-{n:03}") for n in range(40)]

        async def call(order: int) -> list[UUID]:
            async with engine.begin() as connection:
                return await enqueue_many(connection, jobs[::order])

        one, two = await asyncio.gather(call(1), call(-1))
        assert one == two[::-1]
        assert len(rows(database, "jobs")) == len(rows(database, "outbox")) == 40
        await settled()

    @pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
    async def test_stricter_isolation(self, database: Database, engine: AsyncEngine, level: Any) -> None:
        """A caller may be SERIALIZABLE; a key that was taken since its snapshot is a 40001 to retry, never a loop."""
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level=level)
            job_id = await enqueue(connection, "K", unique_key="first")
            assert await enqueue(connection, "K", unique_key="first") == job_id
            async with engine.begin() as other:
                await enqueue(other, "K", unique_key="second")
            with pytest.raises(DBAPIError) as refused:
                await enqueue(connection, "K", unique_key="second")
            assert getattr(refused.value.orig, "sqlstate", None) == "40001"
        assert [row["unique_key"] for row in rows(database, "jobs")] == ["second"]
        await settled()

    async def test_huge_payload(self, database: Database, engine: AsyncEngine) -> None:
        """A payload of five megabytes is written whole."""
        text = "ж" * 2_500_000
        async with engine.begin() as connection:
            await enqueue(connection, "K", {"text": text})
            await enqueue_many(connection, [NewJob("K", {"text": text})])
        assert [row["payload"]["text"] == text for row in rows(database, "jobs")] == [True, True]
        await settled()

    async def test_traceparent(self, database: Database, engine: AsyncEngine) -> None:
        """A job carries the trace of the request or job it was enqueued in, and outside of one a trace of its own."""
        given = traces.new()
        async with engine.begin() as connection:
            token = traces.current.set(given)
            await enqueue(connection, "INSIDE")
            await enqueue_many(connection, [NewJob("INSIDE")])
            traces.current.reset(token)
            await enqueue(connection, "OUTSIDE")
        found = {(row["kind"], row["traceparent"]) for row in rows(database, "outbox")}
        assert ("INSIDE", given) in found
        assert len(found) == 2
        await settled()

    @pytest.mark.parametrize("years", [-1900, -10, 10, 7000])
    async def test_far_times(self, database: Database, engine: AsyncEngine, years: int) -> None:
        """A time long past is due at once, a time far ahead is kept to the microsecond."""
        at = datetime(2026 + years, 7, 8, 9, 10, 11, 121314, tzinfo=UTC)
        async with engine.begin() as connection:
            await enqueue(connection, "K", run_at=at)
            await enqueue_many(connection, [NewJob("K", run_at=at)])
        assert [row["run_at"] for row in rows(database, "jobs")] == [at, at]
        assert [row["due_at"] for row in rows(database, "outbox")] == [at, at]
        await settled()


class TestSync:
    """With a Session or a Connection the id is returned."""

    @pytest.mark.parametrize("sync_engine", SYNC_DRIVERS, indirect=True)
    def test_session(self, database: Database, sync_engine: Engine) -> None:
        """A session's transaction writes both rows, with every argument as it was given."""
        with Session(sync_engine) as session, session.begin():
            job_id = enqueue(session, "K", {"n": 1}, **ARGUMENTS)
            assert rows(database, "jobs") == rows(database, "outbox") == []
        check_both_rows(database, job_id)

    @pytest.mark.parametrize("sync_engine", SYNC_DRIVERS, indirect=True)
    def test_connection(self, database: Database, sync_engine: Engine) -> None:
        """So does a connection's, with enqueue and with enqueue_many."""
        with sync_engine.begin() as connection:
            job_id = enqueue(connection, "K", {"n": 1}, **ARGUMENTS)
            again = enqueue_many(connection, [NewJob("K", {"n": 2}, unique_key=ARGUMENTS["unique_key"])])
        assert again == [job_id]
        check_both_rows(database, job_id)

    @pytest.mark.parametrize("sync_engine", SYNC_DRIVERS, indirect=True)
    def test_rollback(self, database: Database, sync_engine: Engine) -> None:
        """A rolled-back transaction leaves nothing, a rolled-back savepoint nothing of its own."""
        with Session(sync_engine) as session:
            enqueue(session, "K")
            session.rollback()
            with session.begin():
                kept = enqueue(session, "K")
                savepoint = session.begin_nested()
                enqueue(session, "K")
                savepoint.rollback()
        assert [row["job_id"] for row in rows(database, "outbox")] == [kept]
        assert [row["id"] for row in rows(database, "jobs")] == [kept]


class TestPlainSql:
    """A producer in any language: the function through psql, as a role that has only what it needs."""

    def test_least_privilege(self, database: Database, psql: Path) -> None:
        """USAGE and EXECUTE are enough to enqueue, and not enough for anything else."""
        role = f"producer_{database.name}"
        with database.sync() as connection:
            connection.execute(f"create role {role} login")
            connection.execute(f"grant usage on schema outboxkit to {role}")
            connection.execute(f"grant execute on function outboxkit.enqueue_job, outboxkit.enqueue_jobs to {role}")
        try:
            run = _psql(psql, database, role)
            made = run("select outboxkit.enqueue_job('K', '{\"n\": 1}')")
            assert made.returncode == 0, made.stderr
            many = run('select outboxkit.enqueue_jobs(\'[{"kind": "K"}, {"kind": "K", "unique_key": "a"}]\')')
            assert (many.returncode, len(many.stdout.split())) == (0, 2)
            assert made.stdout.strip() in {str(row["id"]) for row in rows(database, "jobs")}
            assert len(rows(database, "outbox")) == 3
            for table in ("jobs", "outbox", "dead_letters", "trigger_settings", "audit", "processes"):
                for statement in (f"select from outboxkit.{table}", f"delete from outboxkit.{table}"):  # noqa: S608 (our tables)
                    refused = run(statement)
                    assert "permission denied" in refused.stderr, statement
            assert (
                "permission denied"
                in run("select outboxkit.complete_attempt(gen_random_uuid(), 1, gen_random_uuid(), null)").stderr
            )
        finally:
            with database.sync() as connection:
                connection.execute(f"drop owned by {role}")
                connection.execute(f"drop role {role}")

    def test_public_has_nothing(self, database: Database, psql: Path) -> None:
        """A role that was granted USAGE alone cannot enqueue: the functions are revoked from PUBLIC."""
        role = f"visitor_{database.name}"
        with database.sync() as connection:
            connection.execute(f"create role {role} login")
            connection.execute(f"grant usage on schema outboxkit to {role}")
        try:
            run = _psql(psql, database, role)
            assert "permission denied" in run("select outboxkit.enqueue_job('K')").stderr
            assert "permission denied" in run("select outboxkit.enqueue_jobs('[]')").stderr
        finally:
            with database.sync() as connection:
                connection.execute(f"drop owned by {role}")
                connection.execute(f"drop role {role}")

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ("''", "jobs_kind_check"),
            ("repeat('k', 201)", "jobs_kind_check"),
            ("'K', queue => ''", "jobs_queue_check"),
            ("'K', unique_key => ''", "jobs_unique_key_check"),
            ("'K', max_attempts => 0", "jobs_max_attempts_check"),
            ("'K', max_attempts => 2147483647", "jobs_max_attempts_check"),
            ("'K', run_at => '-infinity'", "jobs_run_at_check"),
            ("'K', run_at => 'infinity'", "jobs_run_at_check"),
            ("'K', run_at => '0044-03-15 BC'", "jobs_run_at_check"),
            ("'K', traceparent => repeat('t', 201)", "jobs_traceparent_check"),
        ],
    )
    def test_checks(self, database: Database, arguments: str, complaint: str) -> None:
        """What no worker could read back, or no limit could be raised from, is refused at the door."""
        with database.sync() as connection, pytest.raises(psycopg.errors.CheckViolation, match=complaint):
            connection.execute(f"select outboxkit.enqueue_job({arguments})".encode())

    def test_search_path_is_pinned(self, database: Database) -> None:
        """A caller's search_path cannot slip functions or tables of its own under the privileged function."""
        with database.sync() as connection:
            connection.execute("create schema evil")
            connection.execute(
                "create function evil.clock_timestamp() returns timestamptz language sql as 'select null::timestamptz'"
            )
            connection.execute("create table evil.jobs (id uuid)")
            connection.execute("set search_path = evil, pg_catalog")
            connection.execute("select outboxkit.enqueue_job('K')")
            connection.execute('select outboxkit.enqueue_jobs(\'[{"kind": "K"}]\')')
        assert len(rows(database, "jobs")) == 2


class TestUuid7:
    """The ids: RFC 9562 version 7."""

    def test_shape_and_order(self, database: Database) -> None:
        """Version 7, variant 10, the time in milliseconds first, and no two alike."""
        with database.sync() as connection:
            before = datetime.now(UTC) - timedelta(seconds=5)
            statement = "select outboxkit.uuid7(), pg_sleep(0.0005) from generate_series(1, 200) n"
            ids = [row[0] for row in connection.execute(statement).fetchall()]
        assert {made.version for made in ids} == {7}
        assert {made.variant for made in ids} == {"specified in RFC 4122"}
        assert len(set(ids)) == len(ids)
        stamps = [made.int >> 80 for made in ids]
        assert stamps == sorted(stamps)
        assert len(set(stamps)) > 10
        assert before.timestamp() * 1000 < stamps[0] <= stamps[-1] < (datetime.now(UTC).timestamp() + 5) * 1000


def _psql(program: Path, database: Database, role: str) -> "Callable[[str], subprocess.CompletedProcess[str]]":
    separator = "&" if "?" in database.url else "?"

    def run(statement: str) -> "subprocess.CompletedProcess[str]":
        url = f"{database.url}{separator}options=-c%20role%3D{role}"
        return subprocess.run(
            [str(program), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def _count(engine: Engine) -> list[str]:
    executed: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _note(_: Any, __: Any, statement: str, *more: Any) -> None:  # noqa: ARG001 (SQLAlchemy passes them)
        executed.append(statement)

    return executed
