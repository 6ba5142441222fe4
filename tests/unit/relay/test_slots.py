"""Slots: how many deliveries go at once, and what becomes of rows that are not sent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from uuid import uuid4

from outboxkit_contracts.actions import Action, Verdict
from outboxkit_relay.slots import Slots
from outboxkit_relay.transports import Outcome
from outboxkit_relay.triggers import Trigger
from outboxkit_relay.window import Window


class Gates:
    """A transport whose deliveries end when the test says so."""

    def __init__(self, *, error: Exception | None = None) -> None:
        """With an error every delivery raises it."""
        self.open: dict[int, asyncio.Event] = {}
        self._error = error

    async def deliver(self, trigger: Trigger) -> Outcome:
        """Wait at the row's gate."""
        if self._error is not None:
            raise self._error
        gate = self.open[trigger.id] = asyncio.Event()
        await gate.wait()
        return Outcome(Verdict(Action.ACK, "accepted"))

    async def close(self) -> None:
        """Nothing to close."""


def row(number: int, *, age: float = 0.0) -> Trigger:
    """A row claimed so many seconds ago."""
    return Trigger(monotonic() - age, number, uuid4(), "default", "K", None, 1, 0, 0.0)


class Scene:
    """Slots with their surroundings."""

    def __init__(self, gates: Gates, window: Window) -> None:
        """Notes what is done and what is given back."""
        self.gates = gates
        self.window = window
        self.done: list[tuple[int, Outcome]] = []
        self.returned: list[int] = []
        self.slots = Slots(
            transport=gates,
            window=window,
            patience=5.0,
            done=lambda trigger, outcome, _: self._finish(trigger, outcome),
            give_back=lambda trigger: self.returned.append(trigger.id),
        )

    def _finish(self, trigger: Trigger, outcome: Outcome) -> None:
        self.done.append((trigger.id, outcome))
        self.window.acked()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the slots run until the condition holds."""
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")


@asynccontextmanager
async def scene(size: int, *, gates: Gates | None = None) -> AsyncIterator[Scene]:
    """So many slots, open."""
    made = Scene(gates or Gates(), Window(size))
    made.slots.start(size)
    try:
        yield made
    finally:
        await made.slots.close()


async def test_no_more_go_at_once_than_the_window_allows() -> None:
    """Ten rows in line, a window of four: four deliveries, and the next one when one has ended."""
    async with scene(4) as it:
        it.slots.offer(row(number) for number in range(10))
        await it.until(lambda: it.slots.in_flight == 4)
        assert sorted(it.gates.open) == [0, 1, 2, 3]
        it.gates.open[2].set()
        await it.until(lambda: 4 in it.gates.open)
        assert it.slots.in_flight == 4
        assert [number for number, _ in it.done] == [2]


async def test_a_wider_window_is_used_at_once() -> None:
    """The window was halved, and acks widen it: idle slots take rows that stand in line."""
    async with scene(4) as it:
        it.window.full(sent_at=1, now=2)
        it.slots.offer(row(number) for number in range(20))
        await it.until(lambda: it.slots.in_flight == 2)
        for number in range(3):
            it.gates.open[number].set()
            await it.until(lambda number=number: number in dict(it.done))  # type: ignore[misc] # the default binds it
        assert it.window.size == 3
        await it.until(lambda: it.slots.in_flight == 3)


async def test_a_row_whose_lease_is_too_short_is_not_sent() -> None:
    """Six seconds after its claim, with five of patience: it is given back, and the next one goes."""
    async with scene(1) as it:
        it.slots.offer([row(1, age=6.0), row(2)])
        await it.until(lambda: 2 in it.gates.open)
        assert it.returned == [1]
        assert 1 not in it.gates.open


async def test_closing_gives_back_what_is_in_line_and_in_flight() -> None:
    """Nothing that was offered is forgotten."""
    async with scene(2) as it:
        it.slots.offer(row(number) for number in range(5))
        await it.until(lambda: it.slots.in_flight == 2)
        await it.slots.close()
        assert sorted(it.returned) == [0, 1, 2, 3, 4]
        assert it.slots.held == 0


async def test_a_transport_that_breaks_its_promise_costs_no_slot() -> None:
    """An exception out of a transport is a fault of the endpoint, and the slot goes on."""
    async with scene(1, gates=Gates(error=RuntimeError("hush"))) as it:
        it.slots.offer([row(1), row(2)])
        await it.until(lambda: len(it.done) == 2)
        for _, outcome in it.done:
            assert outcome.verdict.action is Action.ENDPOINT_FAULT
            assert outcome.verdict.reason == "the transport failed: RuntimeError"


async def test_a_line_forms_only_where_deliveries_are_quick() -> None:
    """At first and after a stall nearly no row stands in line; with quick deliveries as many as there are slots."""
    async with scene(8) as it:
        assert it.slots.capacity == 8
        for number in range(200):
            it.slots.offer([row(number)])
            await it.until(lambda number=number: number in it.gates.open)  # type: ignore[misc] # the default binds it
            it.gates.open[number].set()
            await it.until(lambda: not it.slots.in_flight)
        assert it.slots.capacity == 16
        it.slots.stalled()
        assert it.slots.capacity == 8
