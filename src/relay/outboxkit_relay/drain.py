"""Drains the outbox into one endpoint: claims rows, has them sent, and hands on what came of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from math import inf
from time import monotonic
from typing import Any, Final

import msgspec
import psycopg

from outboxkit.modes import Mode
from outboxkit_contracts.actions import Action
from outboxkit_relay import triggers
from outboxkit_relay.breaker import State
from outboxkit_relay.decisions import Ack, Bury, Retry
from outboxkit_relay.endpoint import Endpoint
from outboxkit_relay.rate import Rate
from outboxkit_relay.settlement import Settlement
from outboxkit_relay.slots import Slots
from outboxkit_relay.stats import Stats
from outboxkit_relay.transports import Outcome
from outboxkit_relay.triggers import Pool, Trigger

log = logging.getLogger(__name__)

# A free slot waits this long (seconds) for more of them, so that a claim is not made for each row by itself.
GATHER: Final = 0.01
# At least this long (seconds) between two claims when the first found nothing: other relays hold the rows just then.
BREATH: Final = 0.02
# The longest pause (seconds) after a statement that failed; it doubles from BREATH.
DATABASE_PAUSE: Final = 1.0

# A refusal that is not believed is a fault too.
_FAULTS: Final = frozenset({Action.ENDPOINT_FAULT, Action.DEAD_LETTER})


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The drain's times, in seconds but for `ahead`. The lease outlasts the deadline."""

    lease: float
    deadline: float
    poll: float
    max_age: float | None = None
    ahead: timedelta | None = None
    """How long before they are due triggers are claimed; None: the transport keeps no schedule."""


class Drain:
    """The way from the outbox to one endpoint.

    A claim takes as many rows as there is room for, in one statement, as soon as the room is worth a statement: it never
    waits for the slowest delivery. Rows that are claimed and not sent are given back uncounted when the breaker opens, the
    mode changes or the relay stops. If the process dies, every row it had claimed comes due again when its lease is over.
    """

    def __init__(
        self,
        *,
        mode: Mode,
        endpoint: Endpoint,
        pool: Pool,
        settlement: Settlement,
        stats: Stats,
        slots: int,
        timing: Timing,
        rate: Rate | None = None,
    ) -> None:
        """Begins paused. `mode` is the one it serves. `rate` may be shared with other drains."""
        self.mode = mode
        self.endpoint = endpoint
        self._pool = pool
        self._settlement = settlement
        self._stats = stats
        self._size = slots
        self._timing = timing
        self._rate = rate
        self._slots = Slots(
            transport=endpoint.transport,
            window=endpoint.window,
            patience=timing.lease - timing.deadline,
            done=self._settle,
            give_back=self._give_back,
        )
        self._paused = True
        self._stop_at: float | None = None
        # Set when the claiming task should look again, whatever it waits for; a wake-up alone ends only its rest.
        self._changed = asyncio.Event()
        self._resting = False
        self._woken = False
        self._database_pause = BREATH
        self._noting = False
        self._faulted: set[int] = set()

    @property
    def in_flight(self) -> int:
        """Deliveries under way."""
        return self._slots.in_flight

    @property
    def failed(self) -> int:
        """After a run until empty: rows whose last delivery ended with a fault of the endpoint."""
        return len(self._faulted)

    def describe(self) -> dict[str, Any]:
        """For people: where the drain leads, and how it goes."""
        endpoint = self.endpoint
        return {
            "name": endpoint.name,
            "breaker": endpoint.breaker.state.value,
            "in_flight": self._slots.in_flight,
            "window": endpoint.window.size,
        }

    def resume(self) -> None:
        """Claim and send."""
        self._paused = False
        self.endpoint.serve(True)
        self._changed.set()

    def pause(self) -> None:
        """Claim no more and give back what is not sent; what is in flight goes on."""
        self._paused = True
        self.endpoint.serve(False)
        self._slots.take_back()
        self._changed.set()

    def wake(self) -> None:
        """There may be something due."""
        self._woken = True
        if self._resting:
            self._changed.set()

    def stop(self, *, grace: float) -> None:
        """Claim no more, give back what is not sent, and let what is in flight end within `grace` seconds.

        `run` returns when that is done. What is in flight after the grace is cancelled and given back; it may arrive twice.
        """
        self._stop_at = monotonic() + grace
        self._slots.take_back()
        self._changed.set()

    async def run(self) -> None:
        """Drain until `stop`. Outlives the database."""
        async with self._open_slots():
            while self._stop_at is None:
                try:
                    await self._step()
                    self._database_pause = BREATH
                except psycopg.Error as error:
                    pause = self._database_pause
                    log.warning("%s: the outbox cannot be read, again in %.2g s: %s", self.endpoint.name, pause, error)
                    await self._until_changed(pause)
                    self._database_pause = min(pause * 2, DATABASE_PAUSE)

    async def run_until_empty(self) -> None:
        """Drain until nothing due is left and every delivery has ended, or until the breaker opens, or `stop`.

        Raises psycopg.Error when the database is away: there is nobody to wait for its return.
        """
        self._noting = True
        async with self._open_slots():
            while self._may_claim() and not self.endpoint.breaker.is_open:
                room = await self._room()
                if not room or await self._claim(room):
                    continue
                if not self._slots.held:
                    return
                await self._until_held(0, self._timing.poll)

    @asynccontextmanager
    async def _open_slots(self) -> AsyncIterator[None]:
        self._slots.start(self._size)
        try:
            yield
            while self._slots.in_flight and (left := self._left()) > 0:
                await self._until_held(0, left)
        finally:
            await self._slots.close()

    def _left(self) -> float:
        return self._timing.deadline if self._stop_at is None else self._stop_at - monotonic()

    def _may_claim(self) -> bool:
        return not self._paused and self._stop_at is None

    async def _step(self) -> None:
        if self._paused:
            await self._until_changed(None)
        elif self.endpoint.breaker.is_open:
            await self._probe()
        elif room := await self._room():
            claimed = await self._claim(room)
            if claimed < room:
                await self._rest(empty=not claimed)

    async def _room(self) -> int:
        """How many rows to claim now; 0 when there is no room, or something changed while this waited for some."""
        if self._rate is not None and (wait := self._rate.wait()) > 0:
            await self._until_changed(wait)
            return 0
        capacity, held = self._slots.capacity, self._slots.held
        if held >= capacity:
            if not await self._until_held(capacity - 1, self._timing.poll):
                self._slots.stalled()
            return 0
        worthwhile = capacity - max(1, capacity // 4)
        if held > worthwhile:
            await self._until_held(worthwhile, GATHER)
            if not self._may_claim() or self.endpoint.breaker.is_open:
                return 0
        room = self._slots.capacity - self._slots.held
        return max(0, room if self._rate is None else min(room, self._rate.available()))

    async def _claim(self, room: int) -> int:
        """Claim up to so many rows and put them in line; how many were claimed."""
        self._woken = False
        async with self._pool.connection() as connection:
            claimed = await triggers.claim(
                connection,
                self.endpoint.queues,
                slots=room,
                lease=timedelta(seconds=self._timing.lease),
                ahead=self._timing.ahead,
            )
        if self._rate is not None:
            self._rate.spend(len(claimed))
        rows = await self._without_over_age(claimed)
        if self._may_claim() and self.endpoint.breaker.state is not State.OPEN:
            self._slots.offer(rows)
        else:  # that changed while the claim was under way
            for trigger in rows:
                self._give_back(trigger)
        return len(claimed)

    async def _without_over_age(self, rows: list[Trigger]) -> list[Trigger]:
        """The rows, without those that are too old; these are buried. A probe is sent however old it is."""
        max_age = self._timing.max_age
        if max_age is None or not rows or self.endpoint.breaker.is_open:
            return rows
        if (horizon := self.endpoint.service.reach(max_age)) is None:
            return rows
        try:
            async with self._pool.connection() as connection:
                old = await triggers.over_age(connection, [row.job_id for row in rows], horizon=horizon)
        except psycopg.Error as error:
            log.warning("%s: ages could not be read, sending all the same: %s", self.endpoint.name, error)
            return rows
        for row in rows:
            if row.job_id in old:
                why = f"not delivered within {max_age:g} s (RELAY_MAX_AGE)"
                self._settlement.bury(row, Bury(reason="max-age", error=why, counted=False))
        return [row for row in rows if row.job_id not in old]

    async def _probe(self) -> None:
        """Once the breaker's wait is over, send one row and see."""
        breaker = self.endpoint.breaker
        if (wait := breaker.wait()) > 0:
            await self._until_changed(None if wait == inf else wait)
            return
        breaker.probe()
        claimed = 0
        try:
            claimed = await self._claim(1)
        finally:
            if not claimed:
                breaker.spared()
        if not claimed:
            await self._rest(empty=True)

    async def _rest(self, *, empty: bool) -> None:
        """Nothing more is due: wait for a wake-up, or until something is. A statement each poll, two when claiming ahead."""
        self._resting = True
        try:
            while not self._woken and self._may_claim():
                async with self._pool.connection() as connection:
                    due = await triggers.next_due(connection, self.endpoint.queues)
                pause = self._timing.poll if due is None else min(self._timing.poll, due)
                if await self._until_changed(max(pause, BREATH if empty else 0.0)) or pause == due:
                    return
                if self._timing.ahead is not None:  # only a claim tells what is within range now
                    return
        finally:
            self._resting = False

    async def _until_held(self, rows: int, seconds: float) -> bool:
        """Wait until no more than so many rows are held or something changes; False when the time was up first."""
        if self._slots.held <= rows:
            return True
        self._slots.notify(self._changed, at=rows)
        return await self._until_changed(seconds)

    async def _until_changed(self, seconds: float | None) -> bool:
        """Wait for a change, up to so many seconds; whether there was one."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    def _settle(self, trigger: Trigger, outcome: Outcome, sent_at: float) -> None:
        now = monotonic()
        breaker = self.endpoint.breaker
        was = breaker.state
        decision = self.endpoint.judge(trigger, outcome, sent_at=sent_at, now=now)
        action = outcome.verdict.action
        match decision:
            case Ack():
                if decision.custody is None:
                    self._settlement.ack(trigger)
                else:
                    self._settlement.hand_over(trigger, decision.custody)
                self._stats.count(self.mode, action, seconds=trigger.waited + now - trigger.claimed_at)
            case Retry():
                self._settlement.retry(trigger, decision)
                self._stats.count(self.mode, Action.ENDPOINT_FAULT if action in _FAULTS else action)
            case Bury():
                self._settlement.bury(trigger, decision)
                self._stats.count(self.mode, Action.DEAD_LETTER)
        if self._noting:
            faulted = isinstance(decision, Retry) and action in _FAULTS
            (self._faulted.add if faulted else self._faulted.discard)(trigger.id)
        if breaker.state is not was:
            if breaker.state is State.OPEN:
                self._slots.take_back()
            self._changed.set()

    def _give_back(self, trigger: Trigger) -> None:
        self._settlement.give_back(trigger)
        if self.endpoint.breaker.state is State.PROBING:  # it may have been the probe
            self.endpoint.breaker.spared()
            self._changed.set()
