"""MicroBatcher: concurrent callers share one flush, and nobody waits for company."""

import asyncio
import logging
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outboxkit.batching import MicroBatcher


class Flushes:
    """Doubles numbers; holds each flush until it is let go, when told to."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.flying = 0
        self.most = 0
        self._go = asyncio.Semaphore(0 if held else 1_000_000)

    async def __call__(self, items: Sequence[int]) -> list[int]:
        """Flush these."""
        self.batches.append(list(items))
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await self._go.acquire()
            return [2 * item for item in items]
        finally:
            self.flying -= 1

    def let_go(self, count: int = 1) -> None:
        """Let so many flushes go on."""
        for _ in range(count):
            self._go.release()


async def _turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_item_goes_at_once() -> None:
    """In an idle system an item is flushed alone and without a timer."""
    flushes = Flushes()
    batcher = MicroBatcher(flushes)
    for n in range(3):
        assert await batcher.submit(n) == 2 * n
    assert flushes.batches == [[0], [1], [2]]


async def test_gathers_while_in_flight() -> None:
    """What comes while every place is taken goes together as soon as one is free."""
    flushes = Flushes(held=True)
    batcher = MicroBatcher(flushes, in_flight=1)
    first = asyncio.create_task(batcher.submit(0))
    await _turns()
    rest = [asyncio.create_task(batcher.submit(n)) for n in range(1, 6)]
    await _turns()
    assert flushes.batches == [[0]]
    flushes.let_go(2)
    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10]
    assert flushes.batches == [[0], [1, 2, 3, 4, 5]]


async def test_size_and_places() -> None:
    """Never more items in a batch than `size`, nor more batches at a time than `in_flight`."""
    flushes = Flushes(held=True)
    batcher = MicroBatcher(flushes, size=3, in_flight=2)
    submitted = [asyncio.create_task(batcher.submit(n)) for n in range(20)]
    await _turns()
    flushes.let_go(20)
    assert await asyncio.gather(*submitted) == [2 * n for n in range(20)]
    assert flushes.most == 2
    assert {len(batch) for batch in flushes.batches} <= {1, 2, 3}


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("turns", range(8))
async def test_no_item_is_left_behind(turns: int, in_flight: int) -> None:
    """An item that comes while a flight is just ending is flushed, at whichever turn of the loop it comes."""
    batcher = MicroBatcher(Flushes(), in_flight=in_flight)
    first = asyncio.create_task(batcher.submit(1))
    await _turns(turns)
    async with asyncio.timeout(10):
        assert await batcher.submit(2) == 4
    await first


async def test_a_cancelled_caller() -> None:
    """A caller that is cancelled takes nobody along, and its item is flushed all the same."""
    flushes = Flushes(held=True)
    batcher = MicroBatcher(flushes, in_flight=1)
    first, second, third = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
    await _turns()
    second.cancel()
    flushes.let_go(2)
    assert await asyncio.gather(first, third) == [0, 4]
    assert second.cancelled() or await asyncio.gather(second, return_exceptions=True)
    assert sorted(item for batch in flushes.batches for item in batch) == [0, 1, 2]


class PoisonedError(ValueError):
    """One item's fault."""


async def _refuse_odd(items: Sequence[int]) -> list[int]:
    if any(item % 2 for item in items):
        raise PoisonedError(f"{items}")
    return list(items)


async def test_one_poisoned_item() -> None:
    """When an error may be one item's fault the items are tried one by one, and only the guilty fail."""
    batcher = MicroBatcher(_refuse_odd, in_flight=1, separable=lambda error: isinstance(error, PoisonedError))
    outcomes = await asyncio.gather(*(batcher.submit(n) for n in range(6)), return_exceptions=True)
    assert [isinstance(outcome, PoisonedError) for outcome in outcomes] == [False, True] * 3


async def test_everybodys_error() -> None:
    """Any other error is everybody's: it is not tried again."""
    flushed = []

    async def broken(items: Sequence[int]) -> list[int]:
        flushed.append(list(items))
        raise ConnectionError

    batcher = MicroBatcher(broken, in_flight=1, separable=lambda error: isinstance(error, PoisonedError))
    outcomes = await asyncio.gather(*(batcher.submit(n) for n in range(4)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 4
    assert flushed == [[0, 1, 2, 3]]


async def test_a_flush_that_miscounts() -> None:
    """A flush that does not answer for each item is an error for all of them, not a caller that waits for ever."""

    async def short(items: Sequence[int]) -> list[int]:
        return list(items)[1:]

    batcher = MicroBatcher(short, in_flight=1)
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RuntimeError] * 3


async def test_a_flight_that_is_cancelled() -> None:
    """A flush that was cancelled cancels those who wait for it; the next item flies again."""
    cancelled = False

    async def flush(items: Sequence[int]) -> list[int]:
        nonlocal cancelled
        if not cancelled:
            cancelled = True
            raise asyncio.CancelledError
        return list(items)

    batcher = MicroBatcher(flush, in_flight=1)
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await batcher.submit(1)
        assert await batcher.submit(2) == 2


async def test_put(caplog: pytest.LogCaptureFixture) -> None:
    """An item handed in without waiting is flushed with the rest; its error is logged."""
    caplog.set_level(logging.ERROR, "outboxkit.batching")
    flushes = Flushes()
    batcher = MicroBatcher(flushes)
    batcher.put(1)
    await batcher.drained()
    assert flushes.batches == [[1]]
    failing = MicroBatcher(_refuse_odd)
    failing.put(1)
    await failing.drained()
    assert [record.getMessage() for record in caplog.records] == ["a batch of 1 failed"]


async def test_drained() -> None:
    """drained() returns when everything that was handed in has been answered, also what comes meanwhile."""
    flushes = Flushes(held=True)
    batcher = MicroBatcher(flushes, size=1, in_flight=1)
    submitted = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
    await _turns()
    draining = asyncio.create_task(batcher.drained())
    await _turns()
    assert not draining.done()
    flushes.let_go(3)
    await draining
    assert [task.done() for task in submitted] == [True] * 3
    await MicroBatcher(flushes).drained()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 3))
def test_any_timing(seed: int, size: int, in_flight: int) -> None:
    """However callers and flushes fall together, each gets its own answer once, and the limits hold."""

    async def play() -> None:
        chance = random.Random(seed)
        flushed: list[list[int]] = []
        flying = 0

        async def flush(items: Sequence[int]) -> list[int]:
            nonlocal flying
            flying += 1
            assert flying <= in_flight
            assert len(items) <= size
            flushed.append(list(items))
            await _turns(chance.randrange(4))
            flying -= 1
            return [-item for item in items]

        async def call(n: int) -> int:
            await _turns(chance.randrange(10))
            return await batcher.submit(n)

        batcher = MicroBatcher(flush, size=size, in_flight=in_flight)
        async with asyncio.timeout(20):
            assert await asyncio.gather(*map(call, range(30))) == [-n for n in range(30)]
        assert sorted(item for batch in flushed for item in batch) == list(range(30))

    asyncio.run(play())
