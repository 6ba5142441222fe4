"""A stage for interleavings: connections that are stepped through statement by statement, and looked at in between.

A scenario says who goes first and what must happen then: a statement either *finishes* or is *blocked* by a lock, as
pg_blocking_pids tells, so nothing depends on time. The SQL it runs can be rewritten, to put a gate into the middle of a
statement, or to prove that the scenario fails without the rule it is about (test_mutations.py).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg

from databases import Database
from integration.outbox.actor import Actor
from outboxkit import queries
from outboxkit.leases import Lease

T = TypeVar("T")

LONGEST = 20.0
PAUSE = 0.002
GATE = 7

# Every statement compares with the clock through this scalar subquery once its snapshot is taken and before it has
# looked at a row: the one place where another transaction can be let in between.
CLOCK = r"\(select clock_timestamp\(\)\)"
GATED_CLOCK = f"(select clock_timestamp() from pg_advisory_xact_lock_shared({GATE}))"  # noqa: S608 (a constant)


class RewriteMissedError(Exception):
    """A rewrite found nothing to rewrite: the SQL has changed, and the mutation list or the gate must follow."""


def only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The only row; fails when there are more, or none."""
    assert len(rows) == 1
    return rows[0]


def _rewritten(name: str, statement: str, pattern: str, replacement: str) -> str:
    text, count = re.subn(pattern, replacement, statement)
    if not count:
        raise RewriteMissedError(f"{name} has no {pattern!r}")
    return text


class Step:
    """A statement that has been started and may be waiting."""

    def __init__(self, actor: Actor, task: "asyncio.Task[Any]") -> None:
        self.actor = actor
        self.task = task


class Stage:
    """A fresh migrated database, an observer outside the play, and as many actors as a scenario wants."""

    def __init__(self, database: Database, observer: psycopg.AsyncConnection[Any]) -> None:
        self.database = database
        self.observer = Actor(observer)
        self.rewrites: list[tuple[str, str, str]] = []
        self._actors: list[Actor] = []
        self._steps: list[Step] = []
        self._functions: list[str] = []

    async def actor(self) -> Actor:
        """One more connection."""
        made = Actor(await self.database.connect())
        self._actors.append(made)
        return made

    async def actors(self, count: int) -> list[Actor]:
        """Several more connections."""
        return [await self.actor() for _ in range(count)]

    def start(self, actor: Actor, statement: Coroutine[Any, Any, Any]) -> Step:
        """Start a statement without waiting for it."""
        step = Step(actor, asyncio.create_task(statement))
        self._steps.append(step)
        return step

    async def blocked(self, step: Step) -> None:
        """Return once the statement waits for a lock; fail when it finishes instead."""
        await self._until(step.task.done, step)
        assert not step.task.done(), f"it was to wait for a lock, and finished with {await step.task!r}"

    async def at_rest(self, step: Step) -> None:
        """Return once the statement has finished or waits for a lock, whichever it is."""
        await self._until(step.task.done, step)

    async def finished(self, step: Step) -> Any:
        """The statement's result; fail when it waits for a lock instead."""
        await self._until(step.task.done, step)
        assert step.task.done(), "it was to finish, and waits for a lock"
        return await step.task

    async def outcome(self, step: Step) -> Any:
        """The statement's result, however long it waits for locks that others are about to release."""
        async with asyncio.timeout(LONGEST):
            return await step.task

    async def at_once(self, actor: Actor, statement: Coroutine[Any, Any, T]) -> T:
        """The result of a statement that must not wait for any lock."""
        result: T = await self.finished(self.start(actor, statement))
        return result

    async def _until(self, done: Callable[[], bool], step: Step) -> None:
        async with asyncio.timeout(LONGEST):
            # Postgres tells nobody that it waits: it must be asked.
            while not done() and not await self._waits(step.actor):  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(PAUSE)

    async def _waits(self, actor: Actor) -> bool:
        rows = await self.observer.run("select cardinality(pg_blocking_pids(%s)) > 0 as waits", actor.pid)
        return bool(rows[0]["waits"])

    @asynccontextmanager
    async def held(self, actor: Actor, name: str, statement: Coroutine[Any, Any, Any]) -> AsyncIterator[Step]:
        """Hold `statement`, which runs the kit's `name`, after its snapshot and before its first row; then let it go."""
        keeper = await self.actor()
        await keeper.run(f"select pg_advisory_lock({GATE})")
        self.rewrites.append((name, CLOCK, GATED_CLOCK))
        try:
            step = self.start(actor, statement)
            await self.blocked(step)
        finally:
            self.rewrites.pop()
        try:
            yield step
        finally:
            await keeper.run(f"select pg_advisory_unlock({GATE})")

    async def rewrite_function(self, name: str, pattern: str, replacement: str) -> None:
        """Replace a part of an SQL function of the kit in this database."""
        rows = await self.observer.run("select pg_get_functiondef(%s::regproc) as text", f"outboxkit.{name}")
        self._functions.append(rows[0]["text"])
        await self.observer.run(_rewritten(name, rows[0]["text"], pattern, replacement))

    def rewritten(self, name: str, statement: str) -> str:
        """The statement with this stage's rewrites applied."""
        for which, pattern, replacement in self.rewrites:
            if which == name:
                statement = _rewritten(name, statement, pattern, replacement)
        return statement

    async def enqueue(self, kind: str = "K", **values: Any) -> UUID:
        """A committed job."""
        names = "".join(f", {name} => %s" for name in values)
        rows = await self.observer.run(
            f"select outboxkit.enqueue_job(%s{names}) as id",
            kind,
            *values.values(),
        )
        made: UUID = rows[0]["id"]
        return made

    async def three(self) -> tuple[UUID, UUID, UUID]:
        """Three jobs in ascending id, stored in the table in descending order."""
        ids = sorted(uuid4() for _ in range(3))
        for earlier, made in reversed(list(enumerate(ids))):
            await self.observer.run(
                "insert into outboxkit.jobs (id, queue, kind, payload, run_at, created_at)"
                " values (%s, 'default', 'K', '{}', now() - interval '1 hour' + %s * interval '1 second', now())",
                made,
                earlier,
            )
        return ids[0], ids[1], ids[2]

    async def job(self, job_id: UUID) -> dict[str, Any]:
        """The job's row as committed."""
        return (await self.observer.run("select * from outboxkit.jobs where id = %s", job_id))[0]

    async def state(self, job_id: UUID) -> str:
        """The job's state as committed."""
        found: str = (await self.job(job_id))["state"]
        return found

    async def triggers(self, job_id: UUID) -> list[dict[str, Any]]:
        """The job's outbox rows as committed."""
        return await self.observer.run("select * from outboxkit.outbox where job_id = %s order by id", job_id)

    async def letters(self, job_id: UUID) -> list[dict[str, Any]]:
        """The job's dead letters as committed."""
        return await self.observer.run("select * from outboxkit.dead_letters where job_id = %s order by id", job_id)

    async def trigger(self, job_id: UUID) -> dict[str, Any]:
        """The job's only outbox row; fails when there are more, or none."""
        return only(await self.triggers(job_id))

    async def letter(self, job_id: UUID) -> dict[str, Any]:
        """The job's only dead letter; fails when there are more, or none."""
        return only(await self.letters(job_id))

    async def now(self) -> Any:
        """The database's clock."""
        return (await self.observer.run("select clock_timestamp() as at"))[0]["at"]

    async def expire(self, *ids: UUID) -> None:
        """Put the jobs' leases into the past."""
        statement = "update outboxkit.jobs set lease_until = clock_timestamp() - interval '1 second' where id = any(%s)"
        await self.observer.run(statement, list(ids))

    async def lapse(self) -> None:
        """Make every trigger due, as when its relay's lease has run out."""
        await self.observer.run("update outboxkit.outbox set due_at = clock_timestamp() - interval '1 second'")

    async def running(self, worker: Actor, kind: str = "K") -> tuple[UUID, Lease]:
        """A job that this worker runs."""
        job = await self.enqueue(kind)
        (lease,) = await worker.claim(job)
        return job, lease

    async def stranded(self, rescues: int = 0) -> UUID:
        """A queued job whose trigger was handed over and lost."""
        job = await self.enqueue()
        await self.observer.run("delete from outboxkit.outbox where job_id = %s", job)
        await self.observer.run(
            "update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second', rescues = %s where id = %s",
            rescues,
            job,
        )
        return job

    async def succeeded(self, queue: str = "default", ago: timedelta = timedelta(0)) -> None:
        """A job of this queue that some worker has done, so long ago."""
        await self.observer.run(
            "insert into outboxkit.jobs (id, queue, kind, payload, state, run_at, created_at, finished_at)"
            " values (gen_random_uuid(), %s, 'K', '{}', 'succeeded', now(), now(), clock_timestamp() - %s)",
            queue,
            ago,
        )

    async def crossing(self, first: Actor, second: Actor) -> None:
        """Make the two find the rows of `three` in opposite order, wherever a statement does not say which."""
        await self.observer.run("analyze outboxkit.jobs")
        joins = "set enable_hashjoin = off; set enable_mergejoin = off; set enable_bitmapscan = off"
        await first.run(f"{joins}; set enable_seqscan = off")
        await second.run(f"{joins}; set enable_indexscan = off; set enable_indexonlyscan = off")

    async def children(self) -> None:
        """Make a table of an application's, with a foreign key to jobs."""
        await self.observer.run("create table child (job_id uuid not null references outboxkit.jobs)")

    async def eventually(self, condition: Callable[[], Awaitable[object]]) -> None:
        """Return as soon as the condition holds; fail when it does not."""
        async with asyncio.timeout(LONGEST):
            while not await condition():  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(PAUSE)

    async def close(self) -> None:
        """End every statement that is still waiting, and every connection."""
        for step in self._steps:
            if not step.task.done():
                await self.observer.run("select pg_terminate_backend(%s)", step.actor.pid)
        await asyncio.gather(*(step.task for step in self._steps), return_exceptions=True)
        for actor in self._actors:
            await actor.connection.close()

    async def tidy(self) -> None:
        """Make the database again what it was, for the next scenario: a tenth of the cost of another database."""
        for function in reversed(self._functions):
            await self.observer.run(function)
        await self.observer.run("drop table if exists child, effects")
        await self.observer.run(
            "truncate outboxkit.jobs, outboxkit.outbox, outboxkit.dead_letters, outboxkit.audit restart identity"
        )


@asynccontextmanager
async def staged(database: Database) -> AsyncIterator[Stage]:
    """A stage on this database, with the kit's statements going through its rewrites."""
    original = queries.load
    observer = await database.connect()
    stage = Stage(database, observer)
    queries.load = lambda name: stage.rewritten(name, original(name).decode()).encode()  # type: ignore[assignment]  # a test's stand-in
    try:
        yield stage
    finally:
        queries.load = original
        await stage.close()
        await stage.tidy()
        await observer.close()
