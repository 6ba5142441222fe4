"""Shutdown begins with the first signal, whatever the server does about it."""

import asyncio
import signal
from types import FrameType

import pytest

from outboxkit_worker.draining import Draining


async def test_it_begins_once() -> None:
    """The grace counts from the first time."""
    draining = Draining(grace=10)
    assert (draining.begun, draining.remaining) == (False, 10)
    draining.begin()
    first = draining.remaining
    draining.begin()
    assert draining.begun
    assert draining.started.is_set()
    assert 0 < draining.remaining <= first <= 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_server_s_own_handler_is_called_too(number: signal.Signals) -> None:
    """The first signal begins the shutdown at once, the second ends the grace; the server hears both."""
    heard: list[int] = []

    def handler(received: int, _frame: FrameType | None) -> None:
        heard.append(received)

    before = signal.signal(number, handler)
    try:
        draining = Draining(grace=10)
        with draining.on_signals():
            signal.raise_signal(number)
            assert draining.begun  # before the event loop has had a turn
            await asyncio.wait_for(draining.started.wait(), 20)
            assert draining.remaining > 0
            signal.raise_signal(number)
            await asyncio.wait_for(draining.hurry.wait(), 20)
            assert draining.remaining == 0
        assert heard == [number, number]
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


async def test_signals_nobody_handles_are_left_alone() -> None:
    """A server without a handler of its own wants what the signal does by default."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Draining(grace=1).on_signals():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_outside_the_main_thread_it_handles_no_signals() -> None:
    """Python lets nobody; the worker starts all the same."""

    async def enter() -> None:
        with Draining(grace=1).on_signals():
            pass

    await asyncio.to_thread(asyncio.run, enter())
