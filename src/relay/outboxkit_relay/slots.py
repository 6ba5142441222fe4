"""Sends claimed rows, many at once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final, TypeAlias

from outboxkit import tasks
from outboxkit_contracts.actions import no_answer
from outboxkit_relay.transports import Outcome, Transport
from outboxkit_relay.triggers import Trigger
from outboxkit_relay.window import Window

log = logging.getLogger(__name__)

# Rows may stand in line for about this long (seconds) before a slot takes them: enough to keep the slots busy while the next
# claim is under way, and nothing where a delivery takes long, because another relay could have the row meanwhile.
AHEAD: Final = 0.05

# What the mean delivery is taken to last (seconds) after a stall: too long for any line.
STALLED: Final = 60.0

# How much the newest delivery weighs in the mean.
_WEIGHT: Final = 0.05

Done: TypeAlias = Callable[[Trigger, Outcome, float], None]


class Slots:
    """A line of claimed rows and the slots that empty it: long-lived tasks, each with one delivery at a time.

    `done` is called with each row, what came of it, and when it was sent. A row whose lease would not outlast its delivery
    is not sent: it goes to `give_back`, like what is taken back from the line.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        window: Window,
        patience: float,
        done: Done,
        give_back: Callable[[Trigger], None],
    ) -> None:
        """`patience`: how long after its claim, in seconds, a row may still be sent (lease less deadline)."""
        self._transport = transport
        self._window = window
        self._patience = patience
        self._done = done
        self._give_back = give_back
        self._line: deque[Trigger] = deque()
        self._sending: set[Trigger] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._mean = 1.0
        self._tasks: list[asyncio.Task[None]] = []
        self._look_at = -1
        self._looked = asyncio.Event()

    @property
    def held(self) -> int:
        """Rows in line and in flight."""
        return len(self._line) + len(self._sending)

    @property
    def in_flight(self) -> int:
        """Deliveries under way."""
        return len(self._sending)

    @property
    def capacity(self) -> int:
        """Rows that may be held: one for each slot, and as many in line as slots are likely to take within a moment."""
        size = self._window.size
        return size + min(size, int(size * AHEAD / max(self._mean, 1e-6)))

    def start(self, slots: int) -> None:
        """Open so many slots."""
        self._tasks = [asyncio.create_task(self._work(), name=f"slot-{n}") for n in range(slots)]

    def offer(self, rows: Iterable[Trigger]) -> None:
        """Put rows in line."""
        self._line.extend(rows)
        self._wake(len(self._line))

    def take_back(self) -> int:
        """Give back every row in line; how many."""
        taken = len(self._line)
        while self._line:
            self._give_back(self._line.popleft())
        return taken

    def stalled(self) -> None:
        """No delivery ends: give back the line, another relay may take it; none forms until deliveries are quick."""
        self.take_back()
        self._mean = max(self._mean, STALLED)

    async def close(self) -> None:
        """Close the slots; a delivery under way is cancelled, and its row given back: it may have arrived."""
        await tasks.end(*self._tasks)
        self.take_back()
        for trigger in self._sending:
            self._give_back(trigger)
        self._sending.clear()

    def notify(self, event: asyncio.Event, *, at: int) -> None:
        """Set `event` once a delivery leaves no more than `at` rows held."""
        self._looked, self._look_at = event, at

    async def _work(self) -> None:
        while True:
            if self._line and len(self._sending) < self._window.size:
                await self._send(self._line.popleft())
            else:
                turn = asyncio.get_running_loop().create_future()
                self._idle.append(turn)
                await turn

    async def _send(self, trigger: Trigger) -> None:
        sent_at = monotonic()
        if sent_at - trigger.claimed_at > self._patience:
            self._give_back(trigger)
            return
        self._sending.add(trigger)
        try:
            outcome = await self._transport.deliver(trigger)
        except Exception as error:
            log.exception("the transport failed", extra={"job_id": trigger.job_id})
            outcome = Outcome(no_answer(f"the transport failed: {type(error).__name__}"))
        self._sending.discard(trigger)
        self._mean += _WEIGHT * (monotonic() - sent_at - self._mean)
        self._done(trigger, outcome, sent_at)
        if self.held <= self._look_at:
            self._look_at = -1
            self._looked.set()
        if self._line and self._idle:
            # This slot takes the next row itself; the window may have widened.
            self._wake(min(len(self._line), self._window.size - len(self._sending)) - 1)

    def _wake(self, slots: int) -> None:
        while slots > 0 and self._idle:
            turn = self._idle.pop()
            if not turn.done():
                turn.set_result(None)
                slots -= 1
