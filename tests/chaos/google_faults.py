"""The faults of Cloud Tasks: of its service, of the relays' rights, of the tokens that it sends."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from chaos.answers import ANSWERS
from chaos.processes import DELIVERY, STRANDED
from chaos.proxy import Answer
from chaos.scene import FELT_WITHIN, Broken, Scene, comes, eventually
from chaos.schedule import Step
from outboxkit_worker.signing_keys import COOL_DOWN

CLOUD_TASKS = "cloud-tasks"
# So many say that it is no accident.
SOME = 3
# Failed calls after which the relays' breakers, which open at the fifth, must be open, or one of them.
MANY = 8
ATTEMPTS = 2
# Seconds by which tasks are late: no switch takes so long.
LATE = 2.0


class Noted:
    """How often Cloud Tasks has done something since this was made."""

    def __init__(self, scene: Scene, what: str) -> None:
        self._console = scene.console
        self._what = what
        self._before = self._console.noted(what)

    async def comes(self, *, within: float = FELT_WITHIN) -> bool:
        """Whether it comes to some within so many seconds."""
        return await comes(
            lambda: self._console.noted(self._what) - self._before >= SOME, what=self._what, within=within
        )


async def kill_google(scene: Scene, step: Step) -> bool:
    """SIGKILL while tasks wait in the queue: they are gone, and so is what it knew of earlier names."""
    [google] = scene.fleet.of("google")
    async with scene.modes.held(CLOUD_TASKS), scene.console.paused():
        felt = await Noted(scene, "made").comes()
        google.kill(down=step.hold)
    return felt


async def freeze_google(scene: Scene, step: Step) -> bool:
    """SIGSTOP until a relay has given up waiting for an answer, then SIGCONT: what was asked is done late."""
    [google] = scene.fleet.of("google")
    async with scene.modes.held(CLOUD_TASKS):
        await scene.console.ready()  # one that is only starting would refuse, not keep anybody waiting
        google.freeze()
        try:
            await asyncio.sleep(DELIVERY + step.hold)
            return await scene.holds(
                "exists (select from outboxkit.outbox where last_error like 'no answer of Cloud Tasks%')"
            )
        finally:
            google.thaw()


async def misbehave(faults: Mapping[str, Any], noted: str, scene: Scene, step: Step) -> bool:
    """It does with every task what it should not, until that is noted of some."""
    async with scene.modes.held(CLOUD_TASKS):
        felt = Noted(scene, noted)
        async with scene.console.faulty(**faults):
            await asyncio.sleep(step.hold)
            return await felt.comes()


async def delay_past_a_switch(scene: Scene, step: Step) -> bool:
    """Tasks are late; by the time that they are dispatched the mode is http, and their jobs have been sent that way."""
    async with scene.modes.held(CLOUD_TASKS), scene.console.faulty(delay=LATE + step.hold):
        late = await Noted(scene, "made").comes()
    async with scene.modes.held("http"):
        return await Noted(scene, "late one answered").comes() and late


async def rotate_key(scene: Scene, step: Step) -> bool:
    """Tokens are signed with a key that no worker has seen, until some have let their bearers in."""
    async with scene.modes.held(CLOUD_TASKS):
        await scene.console.rotate_key()
        felt = Noted(scene, "accepted with a new key")
        await asyncio.sleep(step.hold)
        # The workers may have asked for another such key just now.
        return await felt.comes(within=COOL_DOWN + FELT_WITHIN)


async def fail_calls(code: str, after: bool, scene: Scene, step: Step) -> bool:
    """CreateTask fails, or does what it was asked and its answer is lost."""
    async with scene.modes.held(CLOUD_TASKS), scene.console.failing("CreateTask", code, after=after):
        await asyncio.sleep(step.hold)
        return await eventually(partial(have_failed, scene, "CreateTask", MANY))


async def have_failed(scene: Scene, method: str, times: int) -> bool:
    """Whether so many calls have."""
    return await scene.console.failed(method) >= times


async def forbid_get_task(scene: Scene, step: Step) -> bool:
    """Tasks are lost, and nobody may ask for them. Afterwards the relays start anew: they remember not to ask."""
    console = scene.console
    async with (
        scene.modes.held(CLOUD_TASKS),
        console.faulty(lost=1.0),
        console.failing("GetTask", "PERMISSION_DENIED"),
    ):
        felt = await eventually(partial(have_failed, scene, "GetTask", 1))
        await asyncio.sleep(step.hold)
    for relay in scene.fleet.of("relay"):
        relay.terminate()
    return felt


async def pause_queue(scene: Scene, step: Step) -> bool:
    """Nothing is dispatched, until relays have looked for a task, and found it waiting."""
    async with scene.modes.held(CLOUD_TASKS), scene.console.paused():
        await asyncio.sleep(STRANDED + step.hold)
        return await Noted(scene, "found").comes()


async def exhaust_attempts(scene: Scene, step: Step) -> bool:
    """The workers are away for longer than Cloud Tasks tries: it deletes the tasks, and tells nobody."""
    async with scene.modes.held(CLOUD_TASKS), scene.console.impatient(ATTEMPTS):
        with ExitStack() as stack:
            for name in scene.worker_links:
                stack.enter_context(Broken(scene, name, Answer(ANSWERS["503"])))
            felt = await Noted(scene, "given up").comes()
            await asyncio.sleep(step.hold)
        return felt


async def refuse_tasks(scene: Scene, step: Step) -> bool:
    """The workers answer 400 to Cloud Tasks, which has no such thing as a dead letter and tries again."""
    async with scene.modes.held(CLOUD_TASKS):
        with ExitStack() as stack:
            for name in scene.worker_links:
                stack.enter_context(Broken(scene, name, Answer(ANSWERS["400"])))
            felt = Noted(scene, "answered 400")
            await asyncio.sleep(step.hold)
            return await felt.comes()


CREATE_TASK: Mapping[str, tuple[str, bool]] = {
    "UNAVAILABLE": ("UNAVAILABLE", False),
    "PERMISSION_DENIED": ("PERMISSION_DENIED", False),
    "RESOURCE_EXHAUSTED": ("RESOURCE_EXHAUSTED", False),
    "done, its answer lost": ("UNAVAILABLE", True),
}

GOOGLE_FAULTS: Mapping[str, Callable[[Scene, Step], Awaitable[bool]]] = {
    "kill Cloud Tasks": kill_google,
    "freeze Cloud Tasks": freeze_google,
    "tasks lost": partial(misbehave, {"lost": 1.0}, "lost"),
    "tasks vanished": partial(misbehave, {"vanished": 1.0}, "vanished"),
    "tasks dispatched twice": partial(misbehave, {"twice": 1.0}, "dispatched again"),
    "tasks delayed past a switch": delay_past_a_switch,
    "tokens expired": partial(misbehave, {"expired_tokens": True}, "answered 401"),
    "key rotated": rotate_key,
    **{f"CreateTask {name}": partial(fail_calls, *how) for name, how in CREATE_TASK.items()},
    "GetTask forbidden": forbid_get_task,
    "queue paused": pause_queue,
    "attempts exhausted": exhaust_attempts,
    "workers answer Cloud Tasks 400": refuse_tasks,
}
