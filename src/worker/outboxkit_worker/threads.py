"""Plain functions, each in a thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def start(function: Callable[..., Any], *arguments: Any, name: str) -> asyncio.Future[Any]:
    """Call `function` in a thread, with the caller's context; the future has what it returns or raises.

    Cancelling the future does not stop the thread. A daemon thread, unlike an executor's: one that hangs must not keep the
    process from ending. How many there are is bounded by the worker's slots.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def call() -> None:
        result, error = None, None
        try:
            result = context.run(function, *arguments)
        except BaseException as caught:  # noqa: BLE001 (it is handed on)
            # A future cannot carry StopIteration.
            error = RuntimeError("the function raised StopIteration") if isinstance(caught, StopIteration) else caught
        with suppress(RuntimeError):  # the loop is closed: the process is ending, and nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=call, name=name, daemon=True).start()
    return future
