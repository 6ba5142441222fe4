"""Scene 1: enqueue, by one producer, by sixteen, and in bulk."""

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from benchmarks import producers as by
from benchmarks import queries
from benchmarks.application import NOTHING
from benchmarks.arithmetic import per_second
from benchmarks.counts import measuring
from benchmarks.database import Database
from benchmarks.filling import fill, sessions
from benchmarks.producers import Producer, produce, row
from benchmarks.results import Comparison, Run, SceneResult, last_counts, rates
from benchmarks.rounds import alternate
from benchmarks.scenes.bench import WARM_UP, Bench

OURS = "ours"
STATEMENT = "one statement, psycopg"
FUNCTION = "enqueue_job(), psycopg"
BARE = "that statement, AsyncSession"
UNNEST = "insert … unnest, psycopg"

Found = dict[str, list[Run]]


async def play(bench: Bench) -> SceneResult:
    """Measure all three."""
    async with bench.server.database() as database:
        found = {
            "1 producer": await one_by_one(bench, database, producers=1, jobs=bench.jobs // 10),
            "16 producers": await one_by_one(bench, database, producers=16, jobs=bench.jobs // 4),
            f"bulk of {bench.jobs:,}": await in_bulk(bench, database),
        }
    return SceneResult(
        name="enqueue",
        title="jobs committed a second",
        notes=(
            "One commit a job, each in a session of its own from a pool; bulk is one transaction.",
            "A floor writes the same two rows with one statement; in an AsyncSession it has SQLAlchemy's cost as well.",
        ),
        comparisons=[
            Comparison(what=what, unit="jobs/s", ours=rates(OURS, runs[OURS]), floor=rates(name, runs[name]))
            for what, runs in found.items()
            for name in runs
            if name != OURS
        ],
        per_job={what: last_counts(runs[OURS]) for what, runs in found.items()},
    )


async def one_by_one(bench: Bench, database: Database, *, producers: int, jobs: int) -> Found:
    """So many producers at once, each committing its share of the jobs one by one."""
    async with AsyncExitStack() as stack:
        connections = await stack.enter_async_context(database.connections(producers))
        make = await stack.enter_async_context(sessions(database.url, size=producers))
        contenders: dict[str, list[Producer]] = {
            OURS: [by.kit(make)] * producers,
            STATEMENT: [by.statement(connection) for connection in connections],
            FUNCTION: [by.function(connection) for connection in connections],
            BARE: [by.bare(make)] * producers,
        }
        for contender in contenders.values():
            await produce(contender, WARM_UP)
        work = {name: partial(produce, contender, jobs) for name, contender in contenders.items()}
        return await alternate(
            {name: measure(bench, database, jobs, each) for name, each in work.items()}, bench.rounds
        )


async def in_bulk(bench: Bench, database: Database) -> Found:
    """All jobs in one transaction."""
    jobs = bench.jobs
    async with sessions(database.url) as make, database.connections(1) as (connection,):
        rows = [row() for _ in range(jobs)]
        columns = {f"{name}s": [each[name] for each in rows] for name in ("id", "payload", "traceparent")}

        async def unnest() -> None:
            await connection.execute(queries.load("insert_many"), {"kind": NOTHING, **columns})

        await fill(make, WARM_UP)
        contenders = {
            OURS: measure(bench, database, jobs, partial(fill, make, jobs)),
            UNNEST: measure(bench, database, jobs, unnest),
        }
        return await alternate(contenders, bench.rounds)


def measure(
    bench: Bench, database: Database, jobs: int, work: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[Run]]:
    """One contender: `work` enqueues so many jobs into empty tables."""

    async def run() -> Run:
        await database.reset()
        async with measuring(bench.meter, database, {"producers": os.getpid()}) as measured:
            await work()
        return Run(rate=per_second(jobs, measured.seconds), per_job=measured.per_job(jobs))

    return run
