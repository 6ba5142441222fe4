"""Scene 2: a relay delivers a backlog to a sink that says yes to everything."""

from contextlib import AsyncExitStack
from functools import partial
from uuid import uuid4

from benchmarks import floors
from benchmarks.arithmetic import per_second
from benchmarks.counts import measuring
from benchmarks.filling import fill, sessions
from benchmarks.posting import client, post_all
from benchmarks.results import Comparison, Run, SceneResult, last_counts, rates
from benchmarks.rounds import alternate
from benchmarks.scenes.bench import WARM_UP, Bench, Contender
from outboxkit.settings import Secret
from outboxkit_relay.settings import RelaySettings

OURS = "relay"
HTTP = "aiohttp, the same requests"
SQL = "claim and delete, 100 a batch"

BATCH = 100


def concurrency() -> int:
    """How many deliveries the relay has in flight by default; the floor has as many."""
    return RelaySettings(database_url=Secret("")).concurrency


async def play(bench: Bench) -> SceneResult:
    """Measure the relay, the requests alone, and the statements alone."""
    sink = await bench.roles.sink()
    async with AsyncExitStack() as stack:
        contenders = {
            OURS: await relay(bench, stack, sink.url, sink.pid),
            HTTP: await requests(bench, stack, sink.url),
            SQL: await statements(bench, stack),
        }
        found = await alternate(contenders, bench.rounds)
    ours = found.pop(OURS)
    return SceneResult(
        name="drain",
        title=f"a relay delivers {bench.jobs:,} triggers",
        notes=(
            "From the commit of the whole backlog to the deletion of its last row; the sink is a process of its own.",
        ),
        comparisons=[
            Comparison(what="http mode", unit="jobs/s", ours=rates(OURS, ours), floor=rates(name, runs))
            for name, runs in found.items()
        ],
        per_job={"http mode": last_counts(ours)},
    )


async def relay(bench: Bench, stack: AsyncExitStack, url: str, sink: int) -> Contender:
    """A relay that runs all the time, warmed up."""
    database = await stack.enter_async_context(bench.server.database())
    make = await stack.enter_async_context(sessions(database.url))
    process = await bench.roles.relay(database_url=database.url, target=url)

    async def drained() -> bool:
        return bool(await database.value("outbox_is_empty"))

    async def run() -> Run:
        await database.reset()
        await fill(make, bench.jobs)
        async with measuring(bench.meter, database, {"relay": process.pid, "sink": sink}) as measured:
            await bench.roles.until(drained)
        return Run(rate=per_second(bench.jobs, measured.seconds), per_job=measured.per_job(bench.jobs))

    await fill(make, WARM_UP)
    await bench.roles.until(drained)
    return run


async def requests(bench: Bench, stack: AsyncExitStack, url: str) -> Contender:
    """The relay's requests, without the relay."""
    posting = await stack.enter_async_context(client(concurrency()))

    async def run(jobs: int) -> Run:
        ids = [uuid4() for _ in range(jobs)]
        return Run(rate=per_second(jobs, await post_all(posting, url, ids, concurrency=concurrency())))

    await run(WARM_UP)
    return partial(run, bench.jobs)


async def statements(bench: Bench, stack: AsyncExitStack) -> Contender:
    """The relay's statements, without the relay."""
    database = await stack.enter_async_context(bench.server.database())
    make = await stack.enter_async_context(sessions(database.url))
    (connection,) = await stack.enter_async_context(database.connections(1))

    async def run(jobs: int) -> Run:
        await database.reset()
        await fill(make, jobs)
        return Run(rate=per_second(jobs, await floors.drain(connection, batch=BATCH)))

    await run(WARM_UP)
    return partial(run, bench.jobs)
