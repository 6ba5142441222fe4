"""Outbox, relays and a provider, moved a step at a time; after each step everything is still to be accounted for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from contract.counting import count
from contract.relay.cases import Case
from contract.relay.honest import Worker
from contract.relay.opinion import Fate
from contract.relay.scene import Scene
from contract.relay.watched import Delivery, Relays, Watched
from outboxkit import dead_letters, queries, sweeps
from outboxkit_relay.triggers import Trigger
from sink import Reply, Request

PATIENCE = 20.0
"""Seconds after which a due row that nobody sends is a failure."""

MOST_ATTEMPTS = 3
# Backoff and Retry-After end before a lease does: what is due later than this (seconds) is claimed, or was by the dead.
LEASED = 10_000
ENVIRON = {
    "RELAY_MAX_ATTEMPTS": str(MOST_ATTEMPTS),
    "RELAY_CONCURRENCY": "2",
    "RELAY_POLL_SECONDS": "1",
    "RELAY_BACKOFF_BASE": "3600",
    "RELAY_BACKOFF_MAX": "6000",
    "RELAY_PROBE_BASE_SECONDS": "0.001",
    "RELAY_PROBE_MAX_SECONDS": "0.001",
    "RELAY_DELIVERY_TIMEOUT_SECONDS": "60",
    "RELAY_LEASE_SECONDS": "14400",
    "SWEEP_INTERVAL_SECONDS": "3600",
    "SHUTDOWN_GRACE_SECONDS": "0",
}

OUTBOX = f"""
select id, claims, attempts, last_error, extract(epoch from due_at)::float8,
       due_at <= clock_timestamp(), due_at > clock_timestamp() + interval '{LEASED} s'
from outboxkit.outbox order by id
"""  # noqa: S608 (a number of our own)
LETTERS = "select id, job_id, stage, reason, replayed_at is null from outboxkit.dead_letters order by id"
JOBS = "select id, state from outboxkit.jobs"
HOURS_PASS = """
with due as (
    update outboxkit.outbox set due_at = clock_timestamp()
    where due_at between clock_timestamp() and clock_timestamp() + %s * interval '1 s'
)
update outboxkit.jobs set run_at = clock_timestamp() where state = 'queued' and run_at > clock_timestamp()
"""
# What was claimed first comes due first.
LEASE_ENDS = "update outboxkit.outbox set due_at = clock_timestamp() - interval '1 h' where id = %s"
ATTEMPT_ENDS = """
update outboxkit.jobs set lease_until = clock_timestamp() - interval '1 s' where id = %s and state = 'running'
"""
LIMITS = sweeps.SweepLimits()


@dataclass(frozen=True)
class Row:
    """One outbox row."""

    id: int
    claims: int
    attempts: int
    error: str | None
    at: float
    due: bool
    leased: bool


@dataclass
class World:
    """The tables are the truth; what is kept here is what they are held against."""

    scene: Scene
    relays: Relays
    jobs: list[UUID] = field(default_factory=list)
    gone: set[UUID] = field(default_factory=set)
    """Jobs whose rows somebody has deleted."""
    letters: Counter[tuple[UUID, str, str]] = field(default_factory=Counter)
    """Every dead letter that there is to be: job, stage, reason."""
    attempts: dict[int, int] = field(default_factory=dict)
    """Failures that count against each outbox row."""
    orphans: set[tuple[int, int]] = field(default_factory=set)
    """Claims of relays that are dead: row and fence."""
    locked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.db = self.scene.db
        self.worker = Worker(self.db)
        self.scene.provider.otherwise = self._arrive

    async def _arrive(self, request: Request) -> Reply:
        relay = self.relays.of(request)
        if relay is None:  # it was killed a moment ago
            return Reply(raw=b"", then="close")
        return await relay.arrived(request).reply

    # What can be seen.

    async def outbox(self) -> dict[int, Row]:
        """The outbox, by id."""
        return {row[0]: Row(*row) for row in await self.db.rows(OUTBOX)}

    def waiting(self) -> list[Delivery]:
        """Every request that waits for its answer, in the order of their rows."""
        found = [delivery for relay in self.relays.alive for delivery in relay.waiting]
        return sorted(found, key=lambda delivery: (delivery.trigger.id, delivery.trigger.claims))

    async def rest(self) -> None:
        """Wait until nothing happens by itself. A row that is due, and a relay with a free slot, do not rest (G4, G5)."""
        deadline = time.monotonic() + PATIENCE
        while not await self._at_rest():
            assert time.monotonic() < deadline, f"nobody sends what is due: {await self.outbox()}"
            await asyncio.sleep(0.0005)

    async def _at_rest(self) -> bool:
        relays = self.relays.alive
        if not all(relay.idle for relay in relays):
            return False
        held = self._held()
        rows = await self.outbox()
        if not all(relay.idle for relay in relays) or held != self._held():
            return False
        due = sum(row.due for row in rows.values() if row.id not in self.locked)
        claimed = {(row.id, row.claims) for row in rows.values() if row.leased and row.id not in self.locked}
        return claimed <= held | self.orphans and all(relay.content(due) for relay in relays)

    def _held(self) -> set[tuple[int, int]]:
        """The claims of all that are alive."""
        return {(trigger.id, trigger.claims) for relay in self.relays.alive for trigger in relay.held}

    async def _until(self, relay: Watched) -> None:
        """Wait until the relay has judged what it was answered, and has written what came of it."""
        deadline = time.monotonic() + PATIENCE
        while relay.judged < relay.answered:
            assert time.monotonic() < deadline, f"{relay.name} does not see its answer"
            await asyncio.sleep(0.0002)
        assert relay.parts is not None
        await relay.parts.settlement.drained()

    # What can happen.

    async def enqueue(self, number: int, *, ahead: bool) -> None:
        """Some jobs are enqueued, for now or for later."""
        for _ in range(number):
            self.jobs.append(await self.db.enqueue(run_in=3000 if ahead else 0))
        await self.db.wake()

    async def answer(self, delivery: Delivery, case: Case) -> None:
        """One request gets its answer; the relay does about it what the document and the design say."""
        relay, trigger = delivery.relay, delivery.trigger
        before = (await self.outbox()).get(trigger.id)
        state = dict(await self.db.rows(JOBS)).get(trigger.job_id)
        fate = self._foretell(delivery, case, state)
        relay.waiting.remove(delivery)
        relay.answered += 1
        delivery.reply.set_result(case.answer(delivery.request))
        await self._until(relay)
        count("relay: answers in the state machine")
        after = (await self.outbox()).get(trigger.id)
        # A row whose lease has ended may be claimed again just before its settlement.
        claimed_since = before is not None and before.due and after is not None and after.claims != trigger.claims
        if before is None or before.claims != trigger.claims or claimed_since:
            assert (before and (before.attempts, before.error)) == (after and (after.attempts, after.error)), case.name
        elif trigger.id in self.locked:
            assert after == before, "what somebody has locked is left to the lease"
        else:
            self._expect(fate, case, trigger, state, after)
        assert relay.drain.endpoint.breaker.is_open is relay.opinion.open, case.name

    def _foretell(self, delivery: Delivery, case: Case, state: str | None) -> Fate:
        """What is to become of the row, if the relay's claim still stands."""
        relay, trigger, was_open = delivery.relay, delivery.trigger, delivery.relay.opinion.open
        believed = case.slug != "unknown-job" or state is None
        fate = relay.opinion.hears(case.action if believed else "endpoint-fault", trigger.id)
        if relay.opinion.open and not was_open:
            relay.probes_allowed = relay.probes = 0
        relay.probes_allowed += 1
        last = fate is Fate.COUNTED and trigger.attempts + 1 >= MOST_ATTEMPTS
        return Fate.REFUSED if last else fate

    def _expect(self, fate: Fate, case: Case, trigger: Trigger, state: str | None, after: Row | None) -> None:
        if fate in {Fate.GONE, Fate.REFUSED}:
            assert after is None, (case.name, fate)
            if fate is Fate.REFUSED and state in {"queued", None}:
                nothing_to_say = case.slug is None or (case.slug == "unknown-job" and state is not None)
                self.letters[trigger.job_id, "trigger", "endpoint-fault" if nothing_to_say else str(case.slug)] += 1
            return
        assert after is not None, (case.name, fate)
        assert after.error
        if fate is Fate.COUNTED:
            self.attempts[trigger.id] = self.attempts.get(trigger.id, 0) + 1

    async def work(self, delivery: Delivery, *, finish: bool) -> Case:
        """A worker does what the request asks for; the answer that it would give."""
        return await self.worker.take(delivery.trigger.job_id, finish=finish)

    async def honestly(self, delivery: Delivery, *, finish: bool = True) -> None:
        """One request is answered by a worker that keeps to the protocol."""
        await self.answer(delivery, await self.work(delivery, finish=finish))

    async def kill(self, relay: Watched) -> None:
        """A relay dies; its claims stay until their lease ends."""
        await self.relays.kill(relay)
        relay.hang_up()
        await self.adopt()

    async def adopt(self) -> None:
        """What is claimed, and by nobody who is alive, waits for its lease to end."""
        self.orphans = {(row.id, row.claims) for row in (await self.outbox()).values() if row.leased} - self._held()

    async def stop(self, relay: Watched) -> None:
        """A relay ends in order: what it held is due again, or when its job is."""
        mine = {(trigger.id, trigger.claims) for trigger in relay.held}
        await self.relays.stop(relay)
        relay.hang_up()
        assert not [r for r in (await self.outbox()).values() if (r.id, r.claims) in mine and r.leased]

    async def lease_ends(self, row: int) -> None:
        """A claim has lasted too long; whoever holds it does not know."""
        await self.db.rows(LEASE_ENDS, row)
        self.orphans = {(id_, claims) for id_, claims in self.orphans if id_ != row}
        await self.db.wake()

    async def hours_pass(self) -> None:
        """Everything that waits for its time is due."""
        await self.db.rows(HOURS_PASS, LEASED)
        await self.db.wake()

    async def cancel(self, job: UUID) -> None:
        """Somebody cancels a job."""
        await self.db.connection.execute(queries.load("cancel_job"), {"id": job})

    async def lose(self, job: UUID) -> None:
        """Somebody deletes a queued job's row, and leaves its trigger."""
        if await self.db.rows("delete from outboxkit.jobs where id = %s and state = 'queued' returning id", job):
            self.gone.add(job)

    async def replay(self, letter: int) -> None:
        """Somebody replays a dead letter."""
        await dead_letters.replay(self.db.connection, letter, actor="a person")

    async def attempt_ends(self, job: UUID) -> None:
        """The worker that runs the job dies, its lease ends, and a sweep comes by."""
        await self.db.rows(ATTEMPT_ENDS, job)
        for ended, state, _, _ in await self._swept():
            if state == "failed":
                self.letters[ended, "job", "lease-expired"] += 1

    async def _swept(self) -> list[Any]:
        limits = {"longest": LIMITS.longest_lease, "batch": 100}
        cursor = await self.db.connection.execute(queries.load("sweep_expired_leases"), limits)
        rows = list(await cursor.fetchall())
        await self.db.wake()
        return rows

    # What must hold.

    async def hold(self) -> None:
        """G2, G5 and G6, on the tables."""
        rows, letters = await self.outbox(), await self.db.rows(LETTERS)
        states = dict(await self.db.rows(JOBS))
        triggered = {job for (job,) in await self.db.rows("select job_id from outboxkit.outbox")}
        open_letters = Counter(job for _, job, _, _, unreplayed in letters if unreplayed)
        for job in self.jobs:
            self._hold_job(job, states.get(job), triggered, open_letters[job])
        assert Counter((job, stage, reason) for _, job, stage, reason, _ in letters) == self.letters
        assert {row.id: row.attempts for row in rows.values() if row.attempts} == {
            row: number for row, number in self.attempts.items() if row in rows
        }
        claims = [(trigger.id, trigger.claims) for relay in self.relays.alive for trigger in relay.held]
        assert len(claims) == len(set(claims)), "two relays hold one claim"
        for relay in self.relays.alive:
            self._hold_relay(relay)

    def _hold_job(self, job: UUID, state: str | None, triggered: set[UUID], letters: int) -> None:
        match state:
            case None:
                assert job in self.gone
                assert job in triggered or letters, f"{job} has vanished with its trigger"
            case "queued":
                assert job in triggered, f"{job} is queued, and nothing will run it"
                assert letters == 0
            case "failed":
                assert letters == 1, f"{job} is dead, and stands in no letter"
            case _:
                assert letters == 0, f"{job} is {state}, and a letter says that it is dead"

    def _hold_relay(self, relay: Watched) -> None:
        assert relay.parts is not None
        assert relay.parts.stats.totals.get("ack", 0) == relay.opinion.acks, "acknowledged without an honest 2xx"
        if relay.opinion.open:
            assert relay.probes <= relay.probes_allowed, "an open breaker sends one row for each answer"
