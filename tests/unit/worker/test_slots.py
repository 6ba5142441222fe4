"""Slots: never more taken than there are, and none lost."""

import asyncio

from outboxkit_worker.slots import Slots


async def test_no_more_are_taken_than_there_are() -> None:
    """take() gives what is left, reserve() says no when none comes."""
    slots = Slots(3)
    assert await slots.reserve()
    assert (slots.take(5), slots.take(5), await slots.reserve()) == (2, 0, False)
    slots.give(2)
    assert (slots.free, slots.take(1), slots.free) == (2, 1, 1)


async def test_a_trigger_that_waits_gets_the_next_slot_before_the_poller() -> None:
    """In the order in which they came."""
    slots = Slots(1)
    assert await slots.reserve()
    waiting = [asyncio.create_task(slots.reserve()) for _ in range(2)]
    await asyncio.sleep(0)
    slots.give()
    assert await waiting[0]
    assert (waiting[1].done(), slots.take(1)) == (False, 0)
    slots.give()
    assert await waiting[1]


async def test_a_trigger_that_goes_away_takes_no_slot_along() -> None:
    """Cancelled while it waits, and cancelled at the very moment a slot comes."""
    for cancel_first in (True, False):
        slots = Slots(1)
        assert await slots.reserve()
        waiting = asyncio.create_task(slots.reserve())
        await asyncio.sleep(0)
        if cancel_first:
            waiting.cancel()
            slots.give()
        else:
            slots.give()
            waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert slots.free == 1


async def test_slots_that_came_too_late_are_free() -> None:
    """A trigger that has given up does not get one."""
    slots = Slots(1)
    assert await slots.reserve()
    assert not await slots.reserve()
    slots.give()
    assert slots.free == 1


async def test_the_poller_waits_for_a_slot() -> None:
    """wait() returns once one is free."""
    slots = Slots(1)
    slots.take(1)
    waiting = asyncio.create_task(slots.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.give()
    await waiting
    assert slots.free == 1
