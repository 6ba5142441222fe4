"""Any answers in any order, to any number of relays that die, freeze and come back: G2, G5 and G6 after every step.

CONTRACT_MACHINES=1000 tries more; the seed is then a new one each time.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from contract.counting import count
from contract.relay import cases, strangers
from contract.relay.cases import Case
from contract.relay.scene import Scene
from contract.relay.watched import Delivery, Relays, Watched, watching
from contract.relay.world import ENVIRON, LETTERS, World

MACHINES = int(os.environ.get("CONTRACT_MACHINES", "100"))
STEPS = 25
MOST_RELAYS = 2

ANSWERS = [case for case in [*cases.examples(), *strangers.strangers()] if case.action != "ack" and not case.endless]
FAULTS = [case for case in ANSWERS if case.action == "endpoint-fault"]
REFUSALS = [case for case in ANSWERS if case.action == "dead-letter"]
OTHERS = [case for case in ANSWERS if case not in FAULTS + REFUSALS]

LOCK = "select id from outboxkit.outbox order by due_at, id limit %s for update"

# What becomes of one request: the worker works or not (None), finishes or leaves the job running, and what is answered:
# the truth (None), or something else.
Outcome: TypeAlias = tuple[bool | None, Case | None]

honest: st.SearchStrategy[Outcome] = st.tuples(st.booleans(), st.none())
lost: st.SearchStrategy[Outcome] = st.tuples(st.booleans(), st.sampled_from(FAULTS))
other: st.SearchStrategy[Outcome] = st.tuples(st.none(), st.sampled_from(OTHERS))
refusal: st.SearchStrategy[Outcome] = st.tuples(st.none(), st.sampled_from(REFUSALS))
fault: st.SearchStrategy[Outcome] = st.tuples(st.none(), st.sampled_from(FAULTS))
place = st.integers(0, 1000)
places = st.lists(place, min_size=8, max_size=8)


class RelayMachine(RuleBasedStateMachine):
    """What people, workers, relays and the network may do. A place picks one of what there is, so that nothing is wasted."""

    scene: ClassVar[Scene]
    relays: ClassVar[Relays]

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.world: World
        self.do(self.begin())

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, wait until nothing happens by itself, and hold the tables against the promises."""
        try:
            self.scene.run(self._do(work))
        except BaseException:
            self.broken = True
            raise

    async def _do(self, work: Coroutine[Any, Any, None]) -> None:
        await work
        await self.world.rest()
        await self.world.hold()
        count("relay: steps of the state machine")

    async def begin(self) -> None:
        """One relay, and a few jobs."""
        await self.scene.clear()
        self.world = World(self.scene, self.relays)
        await self.world.relays.start()
        await self.world.enqueue(8, ahead=False)

    @rule(number=st.integers(1, 6), ahead=st.booleans())
    def enqueue(self, number: int, ahead: bool) -> None:
        """Jobs are enqueued."""
        self.do(self.world.enqueue(number, ahead=ahead))

    @rule(outcomes=st.lists(honest, min_size=1, max_size=6), places=places)
    def all_is_well(self, outcomes: list[Outcome], places: list[int]) -> None:
        """Workers do their work and say so."""
        self.do(self._answers(outcomes, places))

    @rule(outcomes=st.lists(honest | lost | other | refusal | fault, min_size=1, max_size=6), places=places)
    def anything_goes(self, outcomes: list[Outcome], places: list[int]) -> None:
        """Each answer is another; some work is done, and its answer lost."""
        self.do(self._answers(outcomes, places))

    @rule(outcomes=st.lists(fault, min_size=5, max_size=6), places=places)
    def outage(self, outcomes: list[Outcome], places: list[int]) -> None:
        """No worker is to be reached."""
        self.do(self._answers(outcomes, places))

    @rule(
        refusals=st.lists(refusal.filter(lambda outcome: outcome[1].slug != "unknown-job"), min_size=4, max_size=6),
        then=st.lists(other, max_size=2),
        places=places,
    )
    def bad_release(self, refusals: list[Outcome], then: list[Outcome], places: list[int]) -> None:
        """A worker refuses everything, and a better one takes nothing yet."""
        self.do(self._answers(refusals + then, places))

    async def _answers(self, outcomes: list[Outcome], places: list[int]) -> None:
        for (finish, case), at in zip(outcomes, places, strict=False):
            if not (waiting := await self._next()):
                return
            delivery = waiting[at % len(waiting)]
            truth = None if finish is None else await self.world.work(delivery, finish=finish)
            told = case or truth
            assert told is not None
            await self.world.answer(delivery, told)
            await self.world.rest()

    async def _next(self) -> list[Delivery]:
        """What waits for an answer. When nothing does, hours pass, a relay starts, jobs come."""
        world = self.world
        if world.waiting():
            return world.waiting()
        if not world.relays.alive:
            await world.relays.start()
        await world.hours_pass()
        await world.rest()
        if not world.waiting():
            await world.enqueue(3, ahead=False)
            await world.rest()
        return world.waiting()

    @rule()
    def hours_pass(self) -> None:
        """What was to be tried later is due."""
        self.do(self.world.hours_pass())

    @rule(at=place)
    def lease_ends(self, at: int) -> None:
        """A relay holds a row for too long, or is dead."""

        async def ends() -> None:
            leased = [row.id for row in (await self.world.outbox()).values() if row.leased]
            if leased:
                await self.world.lease_ends(leased[at % len(leased)])

        self.do(ends())

    @rule(at=place, told=st.sampled_from(ANSWERS))
    def overtake(self, at: int, told: Case) -> None:
        """An answer comes so late that another relay has claimed the row since: it changes nothing."""
        self.do(self._overtaken(at, told))

    async def _overtaken(self, at: int, told: Case) -> None:
        world = self.world
        if not (waiting := await self._next()):
            return
        late = waiting[at % len(waiting)]
        await world.lease_ends(late.trigger.id)
        while len(world.relays.alive) < MOST_RELAYS:
            await world.relays.start()
        await world.rest()
        others = [delivery for delivery in world.waiting() if delivery.trigger.id != late.trigger.id]
        for other in others:  # which leaves room for the row
            await world.honestly(other)
            await world.rest()
        if any(delivery.trigger.id == late.trigger.id and delivery is not late for delivery in world.waiting()):
            count("relay: answers that came too late")
        await world.answer(late, told)

    @rule()
    def start(self) -> None:
        """One more relay."""

        async def starts() -> None:
            if len(self.world.relays.alive) < MOST_RELAYS:
                await self.world.relays.start()

        self.do(starts())

    @rule(at=place, finish=st.none() | st.booleans())
    def kill(self, at: int, finish: bool | None) -> None:
        """A relay dies with requests under way, which a worker may have got."""

        async def dies() -> None:
            if not (relay := self._relay(at)):
                return
            under_way = list(relay.waiting)
            await self.world.kill(relay)
            for delivery in under_way if finish is not None else []:
                await self.world.work(delivery, finish=bool(finish))

        self.do(dies())

    @rule(at=place)
    def stop(self, at: int) -> None:
        """A relay ends in order."""

        async def ends() -> None:
            if relay := self._relay(at):
                await self.world.stop(relay)

        self.do(ends())

    def _relay(self, at: int) -> Watched | None:
        alive = self.world.relays.alive
        return alive[at % len(alive)] if alive else None

    @rule(at=place)
    def cancel(self, at: int) -> None:
        """A job is cancelled."""
        if self.world.jobs:
            self.do(self.world.cancel(self.world.jobs[at % len(self.world.jobs)]))

    @rule(at=place)
    def lose(self, at: int) -> None:
        """A queued job's row is deleted."""
        if self.world.jobs:
            self.do(self.world.lose(self.world.jobs[at % len(self.world.jobs)]))

    @rule(at=place)
    def replay(self, at: int) -> None:
        """A dead letter is replayed."""

        async def replays() -> None:
            letters = [id_ for id_, *_, unreplayed in await self.world.db.rows(LETTERS) if unreplayed]
            if letters:
                await self.world.replay(letters[at % len(letters)])

        self.do(replays())

    @rule(at=place, finish=st.booleans())
    def attempt_ends(self, at: int, finish: bool) -> None:
        """A job that was left running is finished, or its worker has died."""

        async def ends() -> None:
            running = await self.world.db.rows("select id from outboxkit.jobs where state = 'running' order by id")
            if running:
                job = running[at % len(running)][0]
                await (self.world.worker.finish(job) if finish else self.world.attempt_ends(job))

        self.do(ends())

    @rule(at=place)
    def freeze(self, at: int) -> None:
        """One relay stops in the middle of everything; the other delivers all that the frozen one has not claimed (G5)."""
        self.do(self._others_go_on(at))

    async def _others_go_on(self, at: int) -> None:
        world = self.world
        while len(world.relays.alive) < MOST_RELAYS:
            await world.relays.start()
        await world.rest()
        frozen = self._relay(at)
        while theirs := [delivery for delivery in world.waiting() if delivery.relay is not frozen]:
            await world.honestly(theirs[0])
            await world.rest()
        assert frozen is not None
        mine = {trigger.id for trigger in frozen.held}
        assert not [row for row in (await world.outbox()).values() if row.due and row.id not in mine]
        count("relay: frozen relays that kept nobody waiting")

    @rule(number=st.integers(1, 5))
    def lock(self, number: int) -> None:
        """Somebody's transaction sits on the rows that are to be claimed next; all the others are delivered (G5)."""
        self.do(self._locked(number))

    async def _locked(self, number: int) -> None:
        world = self.world
        async with await self.scene.database.connect(autocommit=False) as holder:
            cursor = await holder.execute(LOCK, [number])
            world.locked = {row[0] for row in await cursor.fetchall()}
            await world.rest()
            while waiting := world.waiting():
                await world.honestly(waiting[0])
                await world.rest()
            left = (await world.outbox()).values()
            assert not world.relays.alive or not [row for row in left if row.due and row.id not in world.locked]
            await holder.rollback()
        world.locked = set()
        await world.adopt()
        await world.db.wake()

    def teardown(self) -> None:
        """The worker is well, everybody's time comes, and everything that was ever committed is accounted for."""
        try:
            if not self.broken:
                self.scene.run(self._everything_arrives())
        finally:
            self.scene.run(self.relays.kill_all())

    async def _everything_arrives(self) -> None:
        world = self.world
        while len(world.relays.alive) > 1:
            await world.stop(world.relays.alive[0])
        if not world.relays.alive:
            await world.relays.start()
        rounds = 0
        while await world.db.outbox():
            rounds += 1
            assert rounds < 20, await world.outbox()
            # A breaker that refusals have opened waits for something to be accepted.
            await world.enqueue(1, ahead=False)
            for row in (await world.outbox()).values():
                if (row.id, row.claims) in world.orphans:
                    await world.lease_ends(row.id)
            await world.hours_pass()
            await world.rest()
            while waiting := world.waiting():
                await world.honestly(waiting[0])
                await world.rest()
        await self._account()

    async def _account(self) -> None:
        world = self.world
        for (job,) in await world.db.rows("select id from outboxkit.jobs where state = 'running'"):
            await world.worker.finish(job)
        await world.hold()
        for relay in [*world.relays.alive]:
            await world.stop(relay)
        counts = dict(await world.db.rows("select state, count(*)::int from outboxkit.jobs group by state"))
        assert set(counts) <= {"succeeded", "failed", "cancelled"}
        assert sum(counts.values()) + len(world.gone) == len(world.jobs)
        for job in world.gone:
            assert await world.db.rows("select id from outboxkit.dead_letters where job_id = %s", job)


@pytest.fixture
def machine(scene: Scene) -> Iterator[type[RelayMachine]]:
    """The machine on this module's scene; its relays show what they are made of."""

    class Machine(RelayMachine):
        pass

    Machine.scene = scene
    Machine.relays = Relays(scene, scene.settings(**ENVIRON))
    with watching():
        yield Machine
        scene.run(Machine.relays.close())


def test_every_promise_holds_after_every_step(machine: type[RelayMachine]) -> None:
    """Random rules, random answers: every job is settled, or triggered, or in a dead letter for a reason of the document."""
    given = "CONTRACT_MACHINES" in os.environ
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=MACHINES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not given,
            database=None,
            print_blob=given,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
        ),
    )
