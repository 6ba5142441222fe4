"""The sweeps as relays and workers run them: whole rounds, in batches, at the same time, again and again."""

import asyncio
import io
import json
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from databases import Database
from integration.outbox.stage import Stage
from integration.outbox.wakes import listening
from outboxkit.database import create_pool
from outboxkit.logs import configure
from outboxkit.sweeps import BATCH, SweepLimits, Swept, heal, retire, sweep_for_ever

LIMITS = SweepLimits(stranded_after=timedelta(minutes=1), stranded_max=2, keep_finished=timedelta(days=1))
# More than two batches, and not a multiple of one.
MANY = 2 * BATCH + 50

INSERT = """
insert into outboxkit.jobs
    (id, queue, kind, payload, state, attempt, max_attempts, run_at, created_at, lease_until, leased_by, rescue_at,
     rescues, finished_at)
select outboxkit.uuid7(), 'default', 'K', '{}', %(state)s, 1, %(max_attempts)s, now(), now(),
       now() + %(lease)s::interval, gen_random_uuid(), now() + %(rescue)s::interval, %(rescues)s,
       now() + %(finished)s::interval
from generate_series(1, %(count)s)
returning id
"""

RECORDS = """
with stats as (
    insert into outboxkit.trigger_stats
    values (now() + %s::interval, 'http', 'ack', gen_random_uuid(), 1, '{1}')
), processes as (
    insert into outboxkit.processes (id, role, host, pid, version, started_at, seen_at)
    values (gen_random_uuid(), 'relay', 'h', 1, '1', now(), now() + %s::interval)
), keys as (
    insert into outboxkit.idempotency_keys (scope, key, digest, status, created_at)
    values ('s', 'k', '', 200, now() + %s::interval)
)
insert into outboxkit.audit (at, actor, action, subject) values (now() + %s::interval, 'a', 'b', 'c')
"""


async def insert(stage: Stage, count: int, state: str, **values: Any) -> list[UUID]:
    """So many jobs in this state."""
    row = {"max_attempts": 3, "lease": None, "rescue": None, "rescues": 0, "finished": None, **values}
    cursor = await stage.observer.connection.execute(INSERT, {"count": count, "state": state, **row})
    return [made for (made,) in await cursor.fetchall()]


async def count(stage: Stage, table: str, condition: str = "true") -> int:
    """How many rows of the table there are."""
    rows = await stage.observer.run(f"select count(*) as n from outboxkit.{table} where {condition}")  # noqa: S608 (ours)
    found: int = rows[0]["n"]
    return found


async def test_heals_more_than_a_batch(stage: Stage) -> None:
    """One round takes everything there is, batch after batch, and says what it did."""
    await insert(stage, MANY, "running", lease="-1 minute")
    await insert(stage, 3, "running", lease="-1 minute", max_attempts=1)
    await insert(stage, MANY, "queued", rescue="-1 minute")
    await insert(stage, 4, "queued", rescue="-1 minute", rescues=2)
    await stage.succeeded()
    swept = await heal(stage.observer.connection, LIMITS)
    assert swept == Swept(requeued=MANY, failed=3, rearmed=MANY, stranded=4)
    assert await count(stage, "outbox") == 2 * MANY
    assert await count(stage, "dead_letters") == 7


async def test_is_idempotent(stage: Stage) -> None:
    """A second round straight after the first finds nothing to do."""
    await insert(stage, 5, "running", lease="-1 minute")
    await insert(stage, 5, "queued", rescue="-1 minute")
    await heal(stage.observer.connection, LIMITS)
    assert await heal(stage.observer.connection, LIMITS) == Swept()
    assert await count(stage, "outbox") == 10


async def test_many_sweepers(stage: Stage) -> None:
    """Relays and workers that all sweep at once requeue every job once, and together all of them."""
    await insert(stage, MANY, "running", lease="-1 minute")
    await insert(stage, MANY, "queued", rescue="-1 minute")
    sweepers = await stage.actors(4)
    swept = await asyncio.gather(*(heal(sweeper.connection, LIMITS) for sweeper in sweepers))
    assert sum(one.requeued for one in swept) == sum(one.rearmed for one in swept) == MANY
    assert await count(stage, "outbox") == 2 * MANY
    assert await count(stage, "jobs", "state = 'queued'") == 2 * MANY


async def test_wakes_when_there_is_work(stage: Stage) -> None:
    """A round that has queued something wakes those who run it; one that has not wakes nobody."""
    async with listening(stage.database) as listener:
        await heal(stage.observer.connection, LIMITS)
        assert await listener.heard() == []
        await insert(stage, 1, "running", lease="-1 minute")
        await heal(stage.observer.connection, LIMITS)
        assert len(await listener.heard()) == 1


async def test_is_logged_job_by_job(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job swept is a log line that is marked as being about it, like every other line about a job."""
    stream = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure(format="json", level="WARNING", stream=stream)
    (job,) = await insert(stage, 1, "running", lease="-1 minute")
    await heal(stage.observer.connection, LIMITS)
    (line,) = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert (line["job_id"], line["attempt"], line["message"]) == (str(job), 1, "swept: lease-expired, now queued")


async def test_retention(stage: Stage) -> None:
    """What ended before the time kept goes; what is younger, or has a letter nobody replayed, stays."""
    for state in ("succeeded", "failed", "cancelled"):
        await insert(stage, 2, state, finished="-25 hours")
        await insert(stage, 1, state, finished="-23 hours")
    dead = await insert(stage, 2, "failed", finished="-3 days")
    for job, replayed in zip(dead, (None, "-2 days"), strict=True):
        await stage.observer.run(
            "insert into outboxkit.dead_letters (job_id, queue, kind, stage, reason, attempts, died_at, replayed_at)"
            " values (%s, 'default', 'K', 'job', 'error', 1, now() - interval '3 days', now() + %s::interval)",
            job,
            replayed,
        )
    assert await retire(stage.observer.connection, LIMITS) == 7
    assert await stage.state(dead[0]) == "failed"
    assert await count(stage, "jobs") == 4
    assert [len(await stage.letters(job)) for job in dead] == [1, 0]


async def test_retention_of_records(stage: Stage) -> None:
    """Roll-ups, processes gone, idempotency keys and the audit trail have their own times."""
    for age, expected in (("-400 days", 0), ("-1 minute", 1)):
        await stage.observer.run(RECORDS, age, age, age, age)
        await retire(stage.observer.connection, LIMITS)
        for table in ("trigger_stats", "processes", "idempotency_keys", "audit"):
            assert await count(stage, table) == expected, table


async def test_for_ever(database: Database, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The loop heals round after round, and a round that fails is logged and followed by the next."""
    caplog.set_level(logging.WARNING, "outboxkit.sweeps")
    async with create_pool(database.url, min_size=1, max_size=1, application_name="sweeper") as pool:
        loop = asyncio.create_task(sweep_for_ever(pool, LIMITS, interval=0.01))
        await _swept(stage, "running", lease="-1 minute")
        await stage.observer.run("alter table outboxkit.outbox rename to away")

        async def failed() -> bool:
            return any("a sweep failed" in record.getMessage() for record in caplog.records)

        await stage.eventually(failed)
        await stage.observer.run("alter table outboxkit.away rename to outbox")
        await _swept(stage, "queued", rescue="-1 minute")
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop


async def _swept(stage: Stage, state: str, **values: Any) -> None:
    (job,) = await insert(stage, 1, state, **values)
    await stage.eventually(lambda: stage.triggers(job))


async def test_deadlock_is_tried_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that Postgres chose as a deadlock's victim is run again: nothing of it was left."""
    await insert(stage, 1, "running", lease="-1 minute")
    execute = stage.observer.connection.execute
    failures = [psycopg.errors.DeadlockDetected(), psycopg.errors.SerializationFailure()]

    async def unlucky(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await execute(*arguments, **options)

    monkeypatch.setattr(stage.observer.connection, "execute", unlucky)
    assert (await heal(stage.observer.connection, LIMITS)).requeued == 1
