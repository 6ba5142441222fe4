"""Scene 3: a backlog of jobs whose handler does nothing, through a worker, with a relay (http) and without (db)."""

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from benchmarks import floors
from benchmarks.arithmetic import per_second
from benchmarks.counts import measuring
from benchmarks.database import Database
from benchmarks.filling import fill, sessions
from benchmarks.results import Comparison, Run, SceneResult, Series, last_counts, rates
from benchmarks.rounds import alternate
from benchmarks.scenes.bench import WARM_UP, Bench, Contender

BATCH = 128
FLOORS = {
    "http": ("claim triggers, claim jobs, complete", floors.run_triggered),
    "db": ("claim due jobs, complete", floors.run_due),
}


async def play(bench: Bench) -> SceneResult:
    """Measure both modes, each beside its own statements."""
    async with AsyncExitStack() as stack:
        contenders: dict[str, Contender] = {}
        for mode in FLOORS:
            contenders[mode] = await worked(bench, stack, mode)
            contenders[f"{mode} floor"] = await bare(bench, stack, mode)
        found = await alternate(contenders, bench.rounds)
    return SceneResult(
        name="end-to-end",
        title=f"{bench.jobs:,} jobs through a handler that does nothing",
        notes=(
            "From the first start to the last end by the database's clock; wall: from the commit of the backlog.",
            f"The floor is those statements alone, {BATCH} jobs each, one after the other on one connection.",
        ),
        comparisons=[each for mode in FLOORS for each in compared(mode, found[mode], found[f"{mode} floor"])],
        per_job={f"{mode} mode": last_counts(found[mode]) for mode in FLOORS},
    )


def compared(mode: str, ours: Sequence[Run], bare_runs: Sequence[Run]) -> list[Comparison]:
    """One mode by the database's clock and by ours."""
    floor = rates(FLOORS[mode][0], bare_runs)
    walls = Series(mode, [run.wall for run in ours])
    return [
        Comparison(what=f"{mode} mode", unit="jobs/s", ours=rates(mode, ours), floor=floor),
        Comparison(what=f"{mode} mode, wall", unit="jobs/s", ours=walls, floor=floor),
    ]


async def start(bench: Bench, database: Database, mode: str) -> dict[str, int]:
    """A worker, and in http mode its relay; their process ids by name."""
    worker = await bench.roles.worker(database_url=database.url, mode=mode)
    if mode == "db":
        return {"worker": worker.pid}
    relay = await bench.roles.relay(database_url=database.url, target=worker.url)
    return {"relay": relay.pid, "worker": worker.pid}


async def worked(bench: Bench, stack: AsyncExitStack, mode: str) -> Contender:
    """A backlog through roles that run all the time, warmed up."""
    database = await stack.enter_async_context(bench.server.database())
    make = await stack.enter_async_context(sessions(database.url))
    processes = await start(bench, database, mode)

    async def done() -> bool:
        return bool(await database.value("jobs_are_done"))

    async def run() -> Run:
        await database.reset()
        await fill(make, bench.jobs)
        committed = time.perf_counter()
        async with measuring(bench.meter, database, processes) as measured:
            await bench.roles.until(done)
        wall = per_second(bench.jobs, time.perf_counter() - committed)
        seconds, succeeded = (await database.rows("run_span"))[0]
        if succeeded != bench.jobs:
            raise RuntimeError(f"{mode} mode: {succeeded:,} of {bench.jobs:,} jobs succeeded")
        return Run(rate=per_second(bench.jobs, seconds), wall=wall, per_job=measured.per_job(bench.jobs))

    await fill(make, WARM_UP)
    await bench.roles.until(done)
    return run


async def bare(bench: Bench, stack: AsyncExitStack, mode: str) -> Contender:
    """The mode's statements alone."""
    database = await stack.enter_async_context(bench.server.database())
    make = await stack.enter_async_context(sessions(database.url))
    (connection,) = await stack.enter_async_context(database.connections(1))
    _, work = FLOORS[mode]

    async def run(jobs: int) -> Run:
        await database.reset()
        await fill(make, jobs)
        return Run(rate=per_second(jobs, await work(connection, batch=BATCH)))

    await run(WARM_UP)
    return partial(run, bench.jobs)
