"""Shutdown, from the first signal on."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any, Final

log = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Draining:
    """Whether the process is shutting down, since when, and how long work under way may still take.

    Uvicorn ends the application's lifespan only after the open requests have ended, and does not tell it before. A worker
    must refuse work, and stop waiting on behalf of requests, as soon as the signal comes: so the signal handler that the
    server has installed by then is wrapped. It is called when the running jobs are over, or the grace is: until then the
    server goes on, and answers triggers and readiness probes with 503. A second signal ends the grace at once.
    """

    def __init__(self, *, grace: float) -> None:
        """`grace` in seconds."""
        self._grace = grace
        self._deadline: float | None = None
        self.started = asyncio.Event()
        self.hurry = asyncio.Event()
        self.work_over: Callable[[], Awaitable[None]] | None = None
        """Returns when the server may go: nothing runs any more, or the grace is over."""
        self._passing_on: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether no new work is to be taken."""
        return self._deadline is not None

    @property
    def remaining(self) -> float:
        """Seconds until what still runs is given back; 0 after a second signal."""
        if self._deadline is None:
            return self._grace
        return 0.0 if self.hurry.is_set() else max(0.0, self._deadline - monotonic())

    def begin(self) -> None:
        """Take no new work from now on; again: no change."""
        if self._deadline is None:
            self._deadline = monotonic() + self._grace
        self.started.set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Begin at SIGTERM and SIGINT for as long as this lasts, in front of whatever handles them already.

        Does nothing outside the main thread, where Python lets nobody handle signals, and for a signal that has no handler
        in Python: what it does by default is then what its owner wants.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        wrapped = {
            number: self._wrapper(handler, loop)
            for number, handler in before.items()
            if callable(handler) and handler is not signal.default_int_handler
        }
        for number, wrapper in wrapped.items():
            signal.signal(number, wrapper)
        try:
            yield
        finally:
            for number, wrapper in wrapped.items():
                if signal.getsignal(number) is wrapper:
                    signal.signal(number, before[number])

    def _wrapper(
        self, handler: Callable[[int, FrameType | None], Any], loop: asyncio.AbstractEventLoop
    ) -> Callable[[int, FrameType | None], None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            # In a signal handler nothing may touch the loop but this.
            loop.call_soon_threadsafe(self._signalled, lambda: handler(number, frame))
            if self._deadline is None:
                self._deadline = monotonic() + self._grace

        return on_signal

    def _signalled(self, pass_on: Callable[[], Any]) -> None:
        if self.started.is_set():
            log.warning("a second signal: giving the running jobs back now")
            self.hurry.set()
            pass_on()
            return
        log.info("shutting down: no new jobs, %.1f s for the running ones", self.remaining)
        self.begin()
        self._passing_on = asyncio.ensure_future(self._pass_on(pass_on))

    async def _pass_on(self, pass_on: Callable[[], Any]) -> None:
        try:
            if self.work_over is not None:
                await self.work_over()
        finally:
            pass_on()
