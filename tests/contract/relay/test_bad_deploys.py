"""A worker that is deployed wrongly refuses every job; what that may cost, and how it is made good (G6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from contract.counting import count
from contract.relay import cases
from contract.relay.scene import Scene
from databases import Database
from outboxkit import Handlers, Job, dead_letters
from outboxkit.application import Application
from outboxkit.settings import Secret
from relaying import eventually, running
from sink import Reply, Request, accepted
from workers import Worker, settings_for

BACKLOG = 500
# Requests of each relay, most of them probes; in life these are half a minute apart.
PROBES = 60
RELAYS = ("relay one", "relay two")
REFUSALS = [case for case in cases.examples() if case.action == "dead-letter" and case.slug != "unknown-job"]
[UNKNOWN_JOB] = [case for case in cases.examples() if case.slug == "unknown-job"]

Answering = Callable[[Request], Reply | Awaitable[Reply]]


def handlers() -> Handlers:
    """Those of a release that works."""
    known = Handlers()

    @known.register("K")
    async def handler(_: dict[str, Any], job: Job) -> None: ...

    return known


class Deployments:
    """Starts real workers, and puts one behind the address that relays send to. `other` is a database without the jobs."""

    def __init__(self, scene: Scene, other: Database, stack: ExitStack) -> None:
        self._scene = scene
        self._stack = stack
        self.other = other

    def worker(self, url: str | None, secrets: Sequence[str] = RELAYS) -> Answering:
        """A worker of this kit on a database; how the address answers with it behind."""
        settings = settings_for(url, secret=Secret(secrets[0]), previous_secret=Secret(secrets[1]), concurrency=BACKLOG)
        worker = Worker(settings, Application(name="tests", handlers=handlers()))
        self._stack.callback(worker.stop)
        session = self._scene.run(_session())
        self._stack.callback(lambda: self._scene.run(session.close()))

        async def forward(request: Request) -> Reply:
            kept = {name: text for name, text in request.lines if name in {"content-type", "x-worker-trigger"}}
            async with session.post(worker.url + request.path, data=request.body, headers=kept) as answer:
                headers = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
                return Reply(answer.status, await answer.read(), answer.headers["Content-Type"], headers)

        return forward

    def works(self) -> Answering:
        """The right worker, on the right database."""
        return self.worker(self._scene.database.url)


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


@pytest.fixture
def deployments(scene: Scene, database: Database) -> Iterator[Deployments]:
    """Workers that end with the test."""
    scene.provider.secrets.update(RELAYS)
    with ExitStack() as stack:
        yield Deployments(scene, database, stack)
    scene.provider.otherwise = accepted


class Story:
    """A backlog, two relays, and one deploy after the other."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.db = scene.db

    async def backlog(self) -> None:
        """Jobs wait, and nobody works."""
        await self.scene.clear()
        self.jobs = await self.db.enqueue_many(BACKLOG)

    def relays(self) -> Any:
        """Two relays, in a hurry."""
        return running(*(self.scene.settings(WORKER_TRIGGER_SECRET=name) for name in RELAYS))

    async def deploy(self, answering: Answering) -> None:
        """From now on this is what the address answers; what was to be tried later is due."""
        self.scene.provider.otherwise = answering
        self.scene.provider.requests.clear()
        await self.db.rows("update outboxkit.outbox set due_at = clock_timestamp() where last_error is not null")

    async def refused(self) -> None:
        """Wait until each relay has been told no so often that its breaker is long open."""
        requests = self.scene.provider.requests

        def enough() -> bool:
            by_relay = Counter(request.headers["x-worker-trigger"] for request in requests)
            return all(by_relay[name] >= PROBES for name in RELAYS)

        await eventually(enough, what="every relay to have tried often")
        for _ in requests:
            count("relay: answers of bad deploys")

    async def delivered(self) -> None:
        """Wait until the outbox is empty, and what was accepted has run."""
        await eventually(self.db.empty, what="the backlog to arrive", within=60)
        unsettled = "select not exists (select from outboxkit.jobs where state in ('queued', 'running'))"
        await eventually(lambda: self.db.value(unsettled), what="every job to end")

    async def states(self) -> dict[str, int]:
        """How many jobs are in which state."""
        return dict(await self.db.rows("select state, count(*)::int from outboxkit.jobs group by state"))

    async def letters(self) -> list[tuple[int, UUID, str]]:
        """The dead letters that nobody has replayed."""
        return await self.db.rows(
            "select id, job_id, reason from outboxkit.dead_letters where replayed_at is null order by id"
        )

    async def replay(self) -> None:
        """Somebody replays every dead letter."""
        for letter, job, _ in await self.letters():
            assert await dead_letters.replay(self.db.connection, letter, actor="a person") == job


def another_database(deployments: Deployments) -> Answering:
    """A worker of this kit that looks at another database: 404 unknown-job."""
    return deployments.worker(deployments.other.url)


def another_database_elsewhere(_: Deployments) -> Answering:
    """The same of a worker that is not of this kit: the document's example."""
    return UNKNOWN_JOB.answer


def another_secret(deployments: Deployments) -> Answering:
    """A worker of this kit that expects another secret: 403 forbidden."""
    return deployments.worker(deployments.other.url, secrets=("another", "yet another"))


def no_database(deployments: Deployments) -> Answering:
    """A worker of this kit whose DATABASE_URL was forgotten: 503 no-database."""
    return deployments.worker(None)


MISTAKES = [another_database, another_database_elsewhere, another_secret, no_database]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_in_the_settings_costs_nothing(
    scene: Scene, deployments: Deployments, mistake: Callable[[Deployments], Answering]
) -> None:
    """Nothing is buried and nothing is counted, however often the relays try; the right worker gets every job."""
    wrong, right = mistake(deployments), deployments.works()

    async def tell() -> None:
        story = Story(scene)
        await story.backlog()
        async with story.relays():
            await story.deploy(wrong)
            await story.refused()
            assert await story.letters() == []
            counted = await scene.db.rows("select count(*)::int, sum(attempts)::int from outboxkit.outbox")
            assert counted == [(BACKLOG, 0)]
            await story.deploy(right)
            await story.delivered()
        assert await story.letters() == []
        assert await story.states() == {"succeeded": BACKLOG}

    scene.run(tell())


def test_a_bad_release_costs_four_dead_letters_for_each_start_of_a_relay(
    scene: Scene, deployments: Deployments
) -> None:
    """The fifth refusal is not believed; a relay that starts anew has to find out for itself. All can be replayed."""
    right = deployments.works()
    refusals = cycle(REFUSALS)

    async def tell() -> None:
        story = Story(scene)
        await story.backlog()
        for starts in (1, 2):
            async with story.relays():
                await story.deploy(lambda request: next(refusals).answer(request))
                await story.refused()
            # The relays have ended, and written what they had to write.
            assert len(await story.letters()) == 4 * len(RELAYS) * starts
            assert await scene.db.value("select sum(attempts)::int from outboxkit.outbox") == 0
        async with story.relays():
            await story.deploy(right)
            await story.delivered()
            buried = await story.letters()
            assert {reason for _, _, reason in buried} <= {case.slug for case in REFUSALS}
            assert await story.states() == {"failed": 16, "succeeded": BACKLOG - 16}
            await story.replay()
            await story.delivered()
        assert await story.letters() == []
        assert await story.states() == {"succeeded": BACKLOG}

    scene.run(tell())


def test_what_half_a_bad_release_buries_can_be_replayed(scene: Scene, deployments: Deployments) -> None:
    """While every other worker is of the bad release, acks come between the refusals, and each is believed: none is lost."""
    right = deployments.works()

    def by_turns(request: Request) -> Reply | Awaitable[Reply]:
        return (REFUSALS[0].answer if len(scene.provider.requests) % 2 else right)(request)

    async def tell() -> None:
        story = Story(scene)
        await story.backlog()
        async with story.relays():
            await story.deploy(by_turns)
            await story.delivered()
            buried = {job for _, job, _ in await story.letters()}
            assert await story.states() == {"failed": len(buried), "succeeded": BACKLOG - len(buried)}
            assert buried
            await story.deploy(right)
            await story.replay()
            await story.delivered()
        assert await story.letters() == []
        assert await story.states() == {"succeeded": BACKLOG}

    scene.run(tell())
