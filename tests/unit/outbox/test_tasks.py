"""Background tasks end when they are told to, whatever they were doing."""

import asyncio

import pytest

from outboxkit import tasks


async def test_a_task_that_loses_a_request_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that swallows the first two cancellations, as wait_for in Python 3.11 may, is ended by the third."""
    asked = 0

    async def for_ever() -> None:
        nonlocal asked
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asked += 1
                if asked == 3:
                    raise

    task = asyncio.create_task(for_ever())
    await asyncio.sleep(0)
    monkeypatch.setattr(tasks, "PATIENCE", 0.001)
    async with asyncio.timeout(20):
        await tasks.end(task)
    assert task.cancelled()
    assert asked == 3


async def test_every_task_is_ended_and_keeps_what_it_raised() -> None:
    """One that is done, one that raises while it is cancelled and one that waits: all have ended, nothing is raised."""

    async def raises() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("on the way out")

    async def returns() -> str:
        return "done"

    done, raising, waiting = (
        asyncio.create_task(returns()),
        asyncio.create_task(raises()),
        asyncio.create_task(asyncio.Event().wait()),
    )
    await asyncio.sleep(0)
    await tasks.end(done, raising, waiting)
    assert done.result() == "done"
    assert isinstance(raising.exception(), ValueError)
    assert waiting.cancelled()


async def test_nothing_to_end_is_fine() -> None:
    """Without tasks it returns at once."""
    await tasks.end()
