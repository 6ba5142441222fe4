"""One run: everything is started, faults strike, everything settles, and what happened is held against the promises."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import httpx
import psycopg

from chaos import checker, setting, volume
from chaos.checker import Evidence
from chaos.faults import DISK_FULL, FAULTS, REFUSING, fill_the_disk
from chaos.modes import Modes
from chaos.processes import Fleet
from chaos.producers import KINDS, Producers
from chaos.scene import Scene
from chaos.schedule import Step
from chaos.volume import Volume
from outboxkit import dead_letters
from outboxkit_cli.embedded import EmbeddedPostgres
from waiting import until_async

STARTED_WITHIN = 60.0
# Orders that are acknowledged before the first fault strikes: one of each kind, and more.
FIRST = 2 * len(KINDS)
NOTES = ("made", "lost", "vanished", "given up", "answered", "answered 2")

SETTLED = """
select not exists (select from outboxkit.jobs where finished_at is null)
   and not exists (select from outboxkit.outbox)
"""


class Struck(NamedTuple):
    """One fault that struck: when by the database's clock, and whether anybody felt it."""

    step: Step
    began: datetime
    ended: datetime
    felt: bool


class Run(NamedTuple):
    """What came of a run."""

    seed: int
    seconds: float
    struck: list[Struck]
    violations: dict[str, list[str]]
    deaths: list[str]
    evidence: Evidence
    unknown: int
    replayed: int
    zombies: int
    tasks: Mapping[str, int]
    """What Cloud Tasks has noted, and how often."""

    @property
    def holds(self) -> bool:
        """Whether every promise was kept, no process died by itself, and every fault was felt by somebody."""
        return not any(self.violations.values()) and not self.deaths and all(struck.felt for struck in self.struck)


async def run(
    *,
    seed: int,
    steps: Iterable[Step],
    seconds: float | None,
    apart: float,
    within: float,
    logs: Path | None,
    say: Callable[[str], None],
    disk: bool,
) -> Run:
    """Carry the steps out, all of them or those that fit into so many seconds, `apart` seconds further apart, and judge.

    What has not ended `within` seconds after the last of them counts as lost. What the processes say goes to `logs`.
    """
    began = monotonic()
    until = None if seconds is None else began + seconds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        small = stack.enter_context(Volume.mounted(folder / "volume")) if disk else None
        postgres = stack.enter_context(
            EmbeddedPostgres(
                data=None if small is None else small.folder / "data",
                settings={**setting.SETTINGS, **(volume.SETTINGS if disk else {})},
            )
        )
        setting.prepare(postgres)
        fleet = Fleet(folder, log=logs or folder / "processes.log")
        async with fleet.running(postgres.directory / ".s.PGSQL.5432", seed=seed):
            await ready(fleet.web_port)
            modes = Modes(postgres.url, seed=seed)
            scene = Scene(fleet=fleet, postgres=postgres, modes=modes, volume=small)
            async with producing(fleet, seed) as producers, modes.switching():
                await until_async(lambda: len(producers.acknowledged) >= FIRST, what="the first orders")
                struck = await strike(scene, steps, until=until, apart=apart, say=say)
            say("the last fault is over; waiting for everything to end")
            replayed = await settle(postgres.url, within=within)
        evidence = checker.gathered(
            postgres.url,
            fleet.effects,
            acknowledged=producers.acknowledged,
            rolled_back=producers.rolled_back,
            refusing_faults=sum(one.step.fault in REFUSING for one in struck),
        )
        return Run(
            seed=seed,
            seconds=monotonic() - began,
            struck=struck,
            violations=checker.violations(evidence),
            deaths=[death for process in fleet.processes for death in process.deaths],
            evidence=evidence,
            unknown=producers.unknown,
            replayed=replayed,
            tasks={what: fleet.console.noted(what) for what in NOTES},
            zombies=fleet.log.read_text(errors="replace").count("The lease was lost"),
        )


async def strike(
    scene: Scene, steps: Iterable[Step], *, until: float | None, apart: float, say: Callable[[str], None]
) -> list[Struck]:
    """Let the faults strike one after the other; says of each when it was over, its name, and how long it took."""
    struck, start = [], monotonic()
    for step in steps:
        if until is not None and monotonic() > until:
            break
        strike_now = fill_the_disk if step.fault == DISK_FULL else FAULTS[step.fault]
        began, at = await now(scene), monotonic()
        felt = await strike_now(scene, step)
        struck.append(Struck(step, began, await now(scene), felt))
        say(
            f"{monotonic() - start:7.1f} s  {step.fault} ({monotonic() - at:.1f} s){'' if felt else '  (nobody felt it)'}"
        )
        await asyncio.sleep(step.pause + apart)
    return struck


async def now(scene: Scene) -> datetime:
    """The database's time, as soon as it can be asked."""
    while True:
        with suppress(psycopg.OperationalError):
            async with await scene.connect() as connection:
                row = await (await connection.execute("select clock_timestamp()")).fetchone()
                assert row is not None
                assert isinstance(row[0], datetime)
                return row[0]
        await asyncio.sleep(0.05)


@asynccontextmanager
async def producing(fleet: Fleet, seed: int) -> AsyncIterator[Producers]:
    """Orders are placed for as long as this lasts."""
    producers, stop = Producers(fleet.web_port, seed=seed), asyncio.Event()
    task = asyncio.create_task(producers.produce(stop))
    try:
        yield producers
    finally:
        stop.set()
        await task


async def settle(url: str, *, within: float) -> int:
    """Wait until every job has ended, replay the dead letters of triggers by two people at once, and wait again.

    Returns how many were replayed. Gives up after a while: the checker says what is left then.
    """
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as one:
        if not await settled(one, within=within):
            return 0
        letters = await (await one.execute("select id from outboxkit.dead_letters where stage = 'trigger'")).fetchall()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
            replayed = 0
            for (letter,) in letters:
                both = [dead_letters.replay(person, letter, actor="somebody") for person in (one, other)]
                replayed += sum(job is not None for job in await asyncio.gather(*both))
        await settled(one, within=within)
        return replayed


async def settled(connection: psycopg.AsyncConnection[tuple[object, ...]], *, within: float) -> bool:
    """Whether every job has ended and the outbox is empty, as soon as that is so or when it has taken too long."""
    deadline = monotonic() + within
    while monotonic() < deadline:
        if await (await connection.execute(SETTLED)).fetchone() == (True,):
            return True
        await asyncio.sleep(0.05)
    return False


async def ready(port: int) -> None:
    """Returns when the web role answers."""

    async def ask() -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            with suppress(httpx.TransportError):
                return (await client.get(f"http://127.0.0.1:{port}/health/ready")).is_success
        return False

    deadline = monotonic() + STARTED_WITHIN
    while not await ask():
        assert monotonic() < deadline, "the web role did not start"
        await asyncio.sleep(0.05)
