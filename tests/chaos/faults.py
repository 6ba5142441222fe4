"""The catalogue of faults. Each strikes, holds for a while and ends; what it broke is whole again when it returns.

A fault returns whether anybody felt it: a run in which a fault strikes nothing proves nothing about it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from time import monotonic
from typing import NamedTuple, TypeAlias

import psycopg

from chaos import setting
from chaos.answers import ANSWERS
from chaos.google_faults import GOOGLE_FAULTS
from chaos.points import POINTS
from chaos.processes import DELIVERY, LEASE, RELAY_LEASE, SWEEP
from chaos.proxy import Answer, AnyFault, Delay, Fault
from chaos.scene import FELT_WITHIN, Broken, Scene, comes
from chaos.schedule import Step
from chaos.volume import answers

# Seconds after which a point that nobody has reached is given up.
REACHED_WITHIN = 40.0
# Answers after which a relay's breaker, which opens at the fifth, must be open.
ENOUGH = {"400": 8}
HOUR = 3600.0
CALM = 1.0


Strike: TypeAlias = Callable[[Scene, Step], Awaitable[bool]]


async def calm(scene: Scene, step: Step) -> bool:  # noqa: ARG001 (as every fault)
    """Nothing: what recovery is measured against."""
    await asyncio.sleep(CALM + step.hold)
    return True


async def kill(role: str, scene: Scene, step: Step) -> bool:
    """SIGKILL at whatever instant it is."""
    victim = scene.fleet.named(step.pick([process.name for process in scene.fleet.of(role)]))
    victim.kill(down=step.hold)
    await asyncio.sleep(step.hold)
    return True


class Way(NamedTuple):
    """What makes relays come by a point: a mode, and links that misbehave."""

    mode: str
    links: str = ""
    fault: AnyFault = Fault.PASS


# Deliveries that fail, deliveries that overlap; the others come by in every mode.
ON_THE_WAY: Mapping[str, Way] = {
    "relay.before-retry": Way("http", "to worker", Answer(ANSWERS["503"])),
    "relay.mid-batch": Way("http", "to worker", Delay(0.1)),
    "relay.after-send": Way("http"),
    "relay.mid-hand-over": Way("cloud-tasks", "to Cloud Tasks", Delay(0.1)),
    "relay.after-create": Way("cloud-tasks"),
}


async def kill_at(point: str, scene: Scene, step: Step) -> bool:  # noqa: ARG001 (as every fault)
    """SIGKILL at a named point of whoever gets there first."""
    if (way := ON_THE_WAY.get(point)) is None:
        return await sprung(scene, point, "kill") is not None
    async with scene.modes.held(way.mode):
        with ExitStack() as stack:
            for name in scene.fleet.links:
                if way.links and way.links in name:
                    stack.enter_context(Broken(scene, name, way.fault))
            return await sprung(scene, point, "kill") is not None


async def sprung(scene: Scene, point: str, action: str) -> int | None:
    """Arm the point and return who reached it; disarms it if nobody does."""
    scene.fleet.points.arm(point, action)
    await comes(lambda: scene.fleet.points.sprung(point), what=point, within=REACHED_WITHIN)
    found = scene.fleet.points.sprung(point)
    scene.fleet.points.clear()
    return found


async def freeze_at(point: str, lease: float, scene: Scene, step: Step) -> bool:
    """SIGSTOP at a named point until the lease that is held there is over and taken, then SIGCONT: a zombie."""
    pid = await sprung(scene, point, "freeze")
    if pid is None:
        return False
    try:
        await asyncio.sleep(lease + 2 * SWEEP + step.hold)
    finally:
        scene.fleet.by_pid(pid).thaw()
    return True


async def freeze_relay_with_a_row(scene: Scene, step: Step) -> bool:  # noqa: ARG001 (as every fault)
    """The same to a relay that is about to write down a failed delivery; the row, unlike a delivered one, is still there.

    When it wakes up the other relay has claimed the row, and is still waiting for an answer.
    """
    links = scene.fleet.links
    async with scene.modes.steady("http"):
        with ExitStack() as stack:
            for name in scene.worker_links:
                stack.enter_context(Broken(scene, name, Answer(ANSWERS["503"])))
            pid = await sprung(scene, "relay.before-retry", "freeze")
        if pid is None:
            return False
        zombie = scene.fleet.by_pid(pid)
        [other] = [name for name in scene.worker_links if zombie.name not in name]
        try:
            # The row was claimed a little before this, and what the other relay sends now hangs until after its lease.
            await asyncio.sleep(RELAY_LEASE - DELIVERY / 2)
            links[other].set(Fault.DROP)
            await asyncio.sleep(DELIVERY * 3 / 4)
        finally:
            zombie.thaw()
            links[other].set(Fault.PASS)
        return True


async def terminate_all(scene: Scene, step: Step) -> bool:
    """SIGTERM to every process, three times in a row: also to one that is just starting."""
    for _ in range(3):
        for process in scene.fleet.processes:
            process.terminate()
        await asyncio.sleep(step.hold / 2)
    return True


async def shift_clock(scene: Scene, step: Step) -> bool:
    """A process works with a wall clock that is an hour off, then with the right one again: a step in both directions."""
    victim = scene.fleet.named(step.pick([process.name for process in scene.fleet.processes]))
    victim.shift_clock(HOUR if step.choice % 2 else -HOUR)
    await asyncio.sleep(1.0 + step.hold)
    victim.shift_clock(0.0)
    return True


async def restart_postgres(mode: str, scene: Scene, step: Step) -> bool:
    """Stop Postgres (`immediate` is a crash) and start it a moment later."""
    await asyncio.to_thread(scene.postgres.stop, mode)
    await asyncio.sleep(step.hold / 2)
    await asyncio.to_thread(scene.postgres.start)
    return True


SEND_AWAY = """
select pg_terminate_backend(pid) from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid()
"""


async def sent_away(scene: Scene) -> int:
    """How many sessions there were, and are no more."""
    async with await scene.connect() as connection:
        return len(await (await connection.execute(SEND_AWAY)).fetchall())


async def terminate_sessions(scene: Scene, step: Step) -> bool:
    """pg_terminate_backend for every session, and again a moment later."""
    ended, deadline = 0, monotonic() + REACHED_WITHIN
    while not ended and monotonic() < deadline:  # after a storm, say, nobody may be connected
        ended += await sent_away(scene)
        await asyncio.sleep(step.hold / 2)
    await sent_away(scene)
    return ended > 0


async def exhaust_connections(scene: Scene, step: Step) -> bool:
    """Send everybody away, and take every place that Postgres has before they are back."""
    async with AsyncExitStack() as stack:
        await sent_away(scene)
        for _ in range(int(setting.SETTINGS["max_connections"])):
            try:
                # As one of the roles: the places kept for superusers stay free.
                taken = await psycopg.AsyncConnection.connect(scene.postgres.url, user="web")
            except psycopg.OperationalError:
                await asyncio.sleep(step.hold)
                return True
            await stack.enter_async_context(taken)
    return False


async def break_link(make: Callable[[Step], AnyFault], only: str, scene: Scene, step: Step) -> bool:
    """One link misbehaves, until somebody has felt it."""
    name = step.pick([name for name in scene.fleet.links if only in name])
    with Broken(scene, name, make(step)) as broken:
        await asyncio.sleep(step.hold)
        return await comes(lambda: broken.times, what=name, within=FELT_WITHIN)


async def answer_wrongly(answer: str, enough: int, scene: Scene, step: Step) -> bool:
    """Both workers answer everything with this, to so many triggers of each relay at least where that is more than one."""
    async with AsyncExitStack() as stack:
        if enough > 1:
            await stack.enter_async_context(
                scene.modes.held("http")
            )  # else Cloud Tasks gets answers that are for relays
        links = [stack.enter_context(Broken(scene, name, Answer(ANSWERS[answer]))) for name in scene.worker_links]
        await asyncio.sleep(step.hold)
        await comes(lambda: all(link.times >= enough for link in links), what=answer, within=FELT_WITHIN / 2.5)
        return any(link.times for link in links)


async def fill_the_disk(scene: Scene, step: Step) -> bool:
    """Nothing can be written on the database's volume any more, until there is room again; Postgres may crash over it."""
    if scene.volume is None:
        return False
    with scene.volume.full():
        felt = await scene.volume.refuses_writes(scene.postgres.url)
        await asyncio.sleep(step.hold)
    if not await answers(scene.postgres.url, within=3.0):  # it has not survived its own recovery on a full disk
        await asyncio.to_thread(scene.postgres.restart, "immediate")
    return felt


NETWORK: Mapping[str, tuple[Callable[[Step], AnyFault], str]] = {
    "delay": (lambda step: Delay(step.hold / 4), " to "),
    "black hole": (lambda _: Fault.DROP, " to "),
    "refuse": (lambda _: Fault.REFUSE, " to "),
    "reset": (lambda _: Fault.RESET, " to "),
    "half close": (lambda _: Fault.HALF_CLOSE, " to "),
    "swallow answers": (lambda _: Fault.SWALLOW, " to "),
    # Not towards Postgres: there TLS is what protects from changed bytes, and nothing else could.
    "corrupt": (lambda _: Fault.CORRUPT, "to worker"),
}

FAULTS: Mapping[str, Strike] = {
    "calm": calm,
    **{f"kill {role}": partial(kill, role) for role in ("web", "relay", "worker")},
    **{f"kill {point}": partial(kill_at, point) for point in POINTS},
    "freeze worker.in-handler": partial(freeze_at, "worker.in-handler", LEASE),
    "freeze worker.before-completion": partial(freeze_at, "worker.before-completion", LEASE),
    "freeze relay.before-retry": freeze_relay_with_a_row,
    "SIGTERM storm": terminate_all,
    "clock off by an hour": shift_clock,
    "Postgres restart": partial(restart_postgres, "fast"),
    "Postgres crash": partial(restart_postgres, "immediate"),
    "sessions terminated": terminate_sessions,
    "connections exhausted": exhaust_connections,
    **{f"network: {name}": partial(break_link, *how) for name, how in NETWORK.items()},
    **GOOGLE_FAULTS,
    **{f"workers answer {answer}": partial(answer_wrongly, answer, ENOUGH.get(answer, 1)) for answer in ANSWERS},
}
DISK_FULL = "disk full"
# After these a relay may have buried what it should not, a few each.
REFUSING = {"workers answer 400", "workers answer Cloud Tasks 400"}
