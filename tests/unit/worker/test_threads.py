"""Plain functions in threads."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from outboxkit_worker import threads

CONTEXT: ContextVar[str] = ContextVar("CONTEXT")


async def test_what_it_returns_and_raises_comes_back() -> None:
    """With the caller's context, and also where a future could not carry it."""
    CONTEXT.set("mine")
    assert await threads.start(lambda a, b: (CONTEXT.get(), a, b), 1, 2, name="t") == ("mine", 1, 2)
    with pytest.raises(ZeroDivisionError):
        await threads.start(lambda: 1 / 0, name="t")
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.start(lambda: next(iter(())), name="t")


async def test_a_thread_does_not_keep_the_process_from_ending() -> None:
    """It is a daemon, whoever waits for it or does not."""
    go_on, seen = threading.Event(), threading.Event()

    def hang() -> bool:
        seen.set()
        go_on.wait(20)
        return threading.current_thread().daemon

    future = threads.start(hang, name="t")
    waiting = asyncio.ensure_future(asyncio.shield(future))
    await asyncio.to_thread(seen.wait, 20)
    waiting.cancel()
    assert not future.done()
    go_on.set()
    assert await future
