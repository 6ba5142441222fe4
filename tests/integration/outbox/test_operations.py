"""What people and processes do beside running jobs: cancel, replay, publish the mode, show signs of life."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from integration.outbox.stage import Stage
from integration.outbox.wakes import listening
from outboxkit import dead_letters, modes, processes
from outboxkit.cancellation import Cancellation, cancel
from outboxkit.database import sqlalchemy_url
from outboxkit.migrations import REVISION
from outboxkit.modes import Mode
from outboxkit.processes import Process


class TestCancel:
    """Cancellation, in the caller's own transaction."""

    @pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
    async def test_with_the_callers_commit(self, stage: Stage, driver: str) -> None:
        """A queued job is cancelled with the caller's commit, together with its triggers, on any driver."""
        job = await stage.enqueue()
        engine = create_async_engine(sqlalchemy_url(stage.database.url).set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(engine) as session:
            assert await cancel(session, job) == Cancellation("cancelled", True)
            await session.rollback()
            assert (await stage.state(job), len(await stage.triggers(job))) == ("queued", 1)
            assert await cancel(session, job) == Cancellation("cancelled", True)
            await session.commit()
            assert (await stage.state(job), await stage.triggers(job)) == ("cancelled", [])
            assert await cancel(session, job) == Cancellation("cancelled", False)
            assert await cancel(session, uuid4()) is None
        await engine.dispose()

    async def test_asking_twice(self, stage: Stage) -> None:
        """A running job is asked once; a second request leaves the first one's time."""
        worker = await stage.actor()
        job, _ = await stage.running(worker)
        assert await worker.cancel(job) == ("running", True)
        first = (await stage.job(job))["cancel_requested_at"]
        assert await worker.cancel(job) == ("running", True)
        assert (await stage.job(job))["cancel_requested_at"] == first

    async def test_success_comes_first(self, stage: Stage) -> None:
        """A job that succeeds before it hears of the request stays succeeded."""
        worker = await stage.actor()
        job, lease = await stage.running(worker)
        await worker.cancel(job)
        await worker.complete(lease)
        assert await stage.state(job) == "succeeded"


class TestReplay:
    """Dead letters, and the way back."""

    async def test_replay(self, stage: Stage) -> None:
        """A replay queues the job, notes who did it, and wakes those who run it; doing it again does nothing."""
        worker = await stage.actor()
        job, lease = await stage.running(worker, "ONCE")
        await worker.end(lease)
        letter = await stage.letter(job)
        async with listening(stage.database) as listener:
            assert await dead_letters.replay(worker.connection, letter["id"], actor="ada", attempts=2) == job
            assert len(await listener.heard()) == 1
            assert await dead_letters.replay(worker.connection, letter["id"], actor="bob") is None
            assert await listener.heard() == []
        replayed = await stage.letter(job)
        assert (replayed["replayed_by"], replayed["replayed_at"] is not None) == ("ada", True)
        assert (await stage.job(job))["max_attempts"] == 3
        assert (await stage.trigger(job))["due_at"] <= await stage.now()

    async def test_nothing_to_replay(self, stage: Stage) -> None:
        """No such letter, or no such job: None."""
        relay = await stage.actor()
        assert await dead_letters.replay(relay.connection, 4711, actor="ada") is None
        job = await stage.enqueue()
        (trigger,) = await relay.claim_triggers()
        await relay.run("delete from outboxkit.jobs")
        await relay.bury(job, trigger)
        assert await dead_letters.replay(relay.connection, (await stage.letter(job))["id"], actor="ada") is None
        assert (await stage.letter(job))["replayed_at"] is None


class TestMode:
    """The mode in force."""

    async def test_published(self, stage: Stage) -> None:
        """What a relay publishes is what is read, for as long as it is fresh."""
        connection = stage.observer.connection
        unpublished = await modes.read(connection)
        assert (unpublished.effective, unpublished.fresh, unpublished.effective_or(Mode.HTTP)) == (
            None,
            False,
            Mode.HTTP,
        )
        await modes.publish(connection, Mode.DB, process=uuid4(), problems=["WORKER_TRIGGER_URL is not set"])
        published = await modes.read(connection)
        assert published.problems == ["WORKER_TRIGGER_URL is not set"]
        assert published.effective_or(Mode.HTTP) is Mode.DB
        silent = await modes.read(connection, fresh=timedelta(0))
        assert (silent.fresh, silent.effective_or(Mode.HTTP)) == (False, Mode.HTTP)

    async def test_override(self, stage: Stage) -> None:
        """Without a live relay the override counts before the process's own setting; with one, its word."""
        connection = stage.observer.connection
        await stage.observer.run("update outboxkit.trigger_settings set mode_override = 'none'")
        assert (await modes.read(connection)).effective_or(Mode.HTTP) is Mode.NONE
        await modes.publish(connection, Mode.DB, process=uuid4(), problems=[])
        assert (await modes.read(connection)).effective_or(Mode.HTTP) is Mode.DB

    async def test_no_row(self, stage: Stage) -> None:
        """A database whose settings row is gone behaves like one where nothing was published."""
        await stage.observer.run("delete from outboxkit.trigger_settings")
        assert (await modes.read(stage.observer.connection)).effective_or(Mode.HTTP) is Mode.HTTP

    @pytest.mark.parametrize("column", ["mode_override", "effective_mode"])
    async def test_unknown_words(self, stage: Stage, column: str) -> None:
        """No other word gets into the table, and no second row."""
        with pytest.raises(psycopg.errors.CheckViolation):
            await stage.observer.run(f"update outboxkit.trigger_settings set {column} = 'fax'")  # noqa: S608 (ours)
        with pytest.raises(psycopg.errors.UniqueViolation):
            await stage.observer.run("insert into outboxkit.trigger_settings default values")


class TestStats:
    """The roll-up of deliveries."""

    async def test_adds_up(self, stage: Stage) -> None:
        """Counts and latencies of one minute, mode, outcome and relay are added up, bucket by bucket."""
        values = {"relay": uuid4(), "modes": ["http", "http"], "outcomes": ["ack", "retry"], "triggers": [3, 1]}
        for _ in range(2):
            await stage.observer.query("record_stats", **values, latencies=["{1,2,0}", "{0,0,1}"])
        rows = await stage.observer.run(
            "select outcome, sum(triggers)::int as n, sum(latency_ms[1])::int as fast, sum(latency_ms[3])::int as slow"
            " from outboxkit.trigger_stats group by outcome order by outcome"
        )
        assert [tuple(row.values()) for row in rows] == [("ack", 6, 2, 0), ("retry", 2, 0, 2)]

    async def test_readiness(self, stage: Stage) -> None:
        """Readiness reads the kit's own revision, whatever other branches there are."""
        await stage.observer.run("insert into outboxkit.alembic_version values ('zzz_0001')")
        rows = await stage.observer.query("readiness")
        assert rows == [{"max": REVISION}]
        await stage.observer.run("delete from outboxkit.alembic_version where version_num = 'zzz_0001'")


class TestProcesses:
    """Signs of life."""

    async def test_record_and_forget(self, stage: Stage) -> None:
        """A sign of life is written once and renewed after, and an orderly goodbye removes it."""
        process = Process(role="relay")
        connection = stage.observer.connection
        await processes.record(connection, process, {"claimed": 1})
        first = await self._rows(stage)
        await processes.record(connection, process, {"claimed": 2})
        (second,) = await self._rows(stage)
        assert [row["details"] for row in first] == [{"claimed": 1}]
        assert (second["details"], second["started_at"]) == ({"claimed": 2}, first[0]["started_at"])
        assert second["seen_at"] > first[0]["seen_at"]
        await processes.forget(connection, process)
        assert await self._rows(stage) == []

    async def test_every_start_is_another(self) -> None:
        """Two starts on one host never share an id."""
        assert Process(role="worker").id != Process(role="worker").id

    @staticmethod
    async def _rows(stage: Stage) -> list[dict[str, Any]]:
        return await stage.observer.run("select * from outboxkit.processes")
