"""Items handed in without waiting: how settlement uses the micro-batcher."""

import asyncio
from collections.abc import Sequence

import pytest

from outboxkit.batching import MicroBatcher


class Batches:
    """A flush that notes its batches, and waits at a gate if it is given one."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        """Without a gate every batch goes through at once."""
        self.seen: list[list[int]] = []
        self._gate = gate

    async def __call__(self, items: Sequence[int]) -> Sequence[None]:
        """Take a batch."""
        self.seen.append(list(items))
        if self._gate is not None:
            await self._gate.wait()
        return [None] * len(items)


async def test_everything_put_is_flushed_in_order() -> None:
    """Whatever is put while a batch is in flight goes with the next one."""
    gate = asyncio.Event()
    batches = Batches(gate)
    batcher: MicroBatcher[int, None] = MicroBatcher(batches, size=3, in_flight=1)
    batcher.put(0)
    await asyncio.sleep(0)
    for number in range(1, 8):
        batcher.put(number)
    gate.set()
    await batcher.drained()
    assert batches.seen == [[0], [1, 2, 3], [4, 5, 6], [7]]


async def test_an_item_put_as_a_flight_ends_is_not_left_behind() -> None:
    """The flush's last act hands in another item: it is flushed too, with nobody handing in a third."""
    both = asyncio.Event()

    async def flush(items: Sequence[int]) -> Sequence[None]:
        if items[0] == 0:
            # Runs as soon as the flight has ended.
            asyncio.get_running_loop().call_soon(batcher.put, 1)
        else:
            both.set()
        return [None] * len(items)

    batcher: MicroBatcher[int, None] = MicroBatcher(flush, in_flight=1)
    batcher.put(0)
    await asyncio.wait_for(both.wait(), 5)


async def test_a_batch_that_is_not_full_lingers_when_told_to() -> None:
    """While it lingers, later items join; a full batch does not linger."""
    batches = Batches()
    lingered: list[float] = []

    def linger() -> float:
        lingered.append(0.01)
        return 0.01

    batcher: MicroBatcher[int, None] = MicroBatcher(batches, size=4, in_flight=1, linger=linger)
    batcher.put(1)
    await asyncio.sleep(0)
    batcher.put(2)
    await batcher.drained()
    assert batches.seen == [[1, 2]]
    for number in range(4):
        batcher.put(number)
    await batcher.drained()
    assert batches.seen[1:] == [[0, 1, 2, 3]]
    assert len(lingered) == 1


async def test_an_error_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The batcher goes on, and the error is in the log."""

    async def flush(items: Sequence[int]) -> Sequence[None]:
        if items[0] == 0:
            raise ValueError("no good")
        return [None]

    batcher: MicroBatcher[int, None] = MicroBatcher(flush, in_flight=1)
    batcher.put(0)
    await batcher.drained()
    assert "no good" in caplog.text
    assert await batcher.submit(1) is None
