"""Scene 4: one job at a time in an idle system, from the commit to the handler's first line."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import TypeAlias
from uuid import UUID

from benchmarks.application import CLOCK, PAYLOAD
from benchmarks.arithmetic import percentile
from benchmarks.chain import CLAIM, COMMIT, Chain
from benchmarks.filling import sessions
from benchmarks.posting import client
from benchmarks.results import Comparison, SceneResult, Series
from benchmarks.rounds import alternate
from benchmarks.scenes.bench import Bench
from benchmarks.scenes.end_to_end import start
from outboxkit import enqueue

MODES = ("http", "db")
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
# What is timed, and the percentiles that are shown of it.
WAYS = {
    "commit to claim": ("p50",),
    "commit to handler": ("p50", "p95", "p99"),
    "call to handler": ("p50", "p95", "p99"),
}
# The steps of the floor that do not lie on it. started_at is written at the beginning of the claim.
WITHOUT = {"commit to claim": {COMMIT, CLAIM}, "commit to handler": {COMMIT}, "call to handler": set[str]()}
MILLISECONDS = 1e3
# Between two jobs, in seconds, and by chance up to twice that: one process's wake-ups are at least 10 ms apart
# under load, and this is to be an idle system, out of step with every poll.
PAUSE = 0.015

# One round: milliseconds, by what was timed.
Samples: TypeAlias = Mapping[str, Sequence[float]]
Observer: TypeAlias = Callable[[], Awaitable[Samples]]


async def play(bench: Bench) -> SceneResult:
    """Measure both modes, each beside the chain of steps that it cannot do without."""
    async with AsyncExitStack() as stack:
        sink = await bench.roles.sink()
        observers: dict[str, Observer] = {}
        for mode in MODES:
            observers[mode] = await observed(bench, stack, mode)
            observers[f"{mode} floor"] = await chained(bench, stack, mode, sink.url)
        found = await alternate(observers, bench.rounds)
    return SceneResult(
        name="latency",
        title=f"{bench.samples} jobs, one at a time, in each round",
        notes=(
            "commit: the producer had its answer; call: it called enqueue; claim: started_at; handler: its own clock.",
            *(steps(mode, found[f"{mode} floor"]) for mode in MODES),
        ),
        comparisons=[each for mode in MODES for each in compared(mode, found[mode], found[f"{mode} floor"])],
    )


def compared(mode: str, ours: Sequence[Samples], floor: Sequence[Samples]) -> list[Comparison]:
    """Every way at its percentiles, beside the steps that it consists of, at the same one."""
    return [
        Comparison(
            what=f"{mode} mode, {way}, {name}",
            unit="ms",
            ours=Series(mode, [percentile(samples[way], SHARES[name]) for samples in ours]),
            floor=Series(
                "the steps alone",
                [percentile(length(samples, way), SHARES[name]) for samples in floor],
            ),
        )
        for way, names in WAYS.items()
        for name in names
    ]


def length(samples: Samples, way: str) -> list[float]:
    """How long the steps took together for each job, in milliseconds: those that lie on the way."""
    on_the_way = [values for name, values in samples.items() if name not in WITHOUT[way]]
    return [sum(each) for each in zip(*on_the_way, strict=True)]


def steps(mode: str, floor: Sequence[Samples]) -> str:
    """What the chain consists of, as medians."""
    parts = {name: median(value for samples in floor for value in samples[name]) for name in floor[0]}
    return f"Floor of {mode} mode: " + " + ".join(f"{name} {value:.2f}" for name, value in parts.items()) + " ms (p50)."


async def observed(bench: Bench, stack: AsyncExitStack, mode: str) -> Observer:
    """The kit: a producer here, the roles in their own processes."""
    database = await stack.enter_async_context(bench.server.database())
    make = await stack.enter_async_context(sessions(database.url, size=2))  # one is for the wake-up
    await start(bench, database, mode)

    async def done() -> bool:
        return bool(await database.value("jobs_are_done"))

    async def run() -> Samples:
        await database.reset()
        called: dict[UUID, float] = {}
        committed: dict[UUID, float] = {}
        for _ in range(bench.samples):
            await pause()
            call = time.time()
            async with make.begin() as session:
                job_id = await enqueue(session, CLOCK, PAYLOAD)
            committed[job_id] = time.time()
            called[job_id] = call
            await asyncio.sleep(PAUSE)  # looking at once would disturb what is looked at
            await bench.roles.until(done)
        moments = await database.rows("moments")
        if len(moments) != bench.samples:
            raise RuntimeError(f"{mode} mode: {len(moments)} of {bench.samples} jobs succeeded")
        ways = [
            (started - committed[job_id], handled - committed[job_id], handled - called[job_id])
            for job_id, _, started, handled in moments
        ]
        return {way: [each[at] * MILLISECONDS for each in ways] for at, way in enumerate(WAYS)}

    await run()
    return run


async def chained(bench: Bench, stack: AsyncExitStack, mode: str, url: str) -> Observer:
    """The floor: the steps between a commit and a claim, from here."""
    database = await stack.enter_async_context(bench.server.database())
    connections = await stack.enter_async_context(database.connections(4))
    posting = await stack.enter_async_context(client(1))
    chain = Chain(connections, post_to=url if mode == "http" else None, posting=posting)
    await stack.enter_async_context(chain)

    async def run() -> Samples:
        await database.reset()
        samples = []
        for _ in range(bench.samples):
            await pause()
            samples.append(await chain.walk())
        return {step: [each[step] * MILLISECONDS for each in samples] for step in samples[0]}

    await run()
    return run


async def pause() -> None:
    """Let everything become idle."""
    await asyncio.sleep(PAUSE + random.random() * PAUSE)  # noqa: S311 (to be out of step, not to be secret)
