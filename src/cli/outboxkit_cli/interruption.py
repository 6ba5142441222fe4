"""What Ctrl-C, SIGTERM and a closed terminal do to a command that runs other programs."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def wanted() -> list[signal.Signals]:
    """Return the signals that stop us: those that our own parent (nohup) has not told us to ignore."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def raise_keyboard_interrupt() -> None:
    """Make every stopping signal a KeyboardInterrupt, as Ctrl-C is, so that `with` blocks clean up."""
    for number in wanted():
        signal.signal(number, signal.default_int_handler)


@contextmanager
def cancelled_by_signals() -> Iterator[asyncio.Event]:
    """Let the first stopping signal cancel the current task; those after it set the event that is yielded.

    So the first begins an orderly stop, and the second, of someone who does not want to wait, cuts it short.
    """
    loop, task, hurry = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping or task is None:
            hurry.set()
        else:
            stopping = True
            task.cancel()

    numbers = wanted()
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield hurry
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
