"""Waiting for a condition, in place of sleeping for a time."""

import asyncio
import time
from collections.abc import Callable

import httpx
import psutil

LONGEST = 60.0
PAUSE = 0.01


def until(condition: Callable[[], object], *, what: str, within: float = LONGEST) -> None:
    """Return as soon as the condition holds; fail the test when it does not within so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"waited {within:g} s for {what}"
        time.sleep(PAUSE)


async def until_async(condition: Callable[[], object], *, what: str, within: float = LONGEST) -> None:
    """The same for a test whose own event loop must go on meanwhile."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"waited {within:g} s for {what}"
        await asyncio.sleep(PAUSE)


def ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended, even if its new parent has not looked yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command_line(process: psutil.Process) -> list[str]:
    """Return a process's command line; nothing when it has ended meanwhile."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def answers(url: str) -> bool:
    """Tell whether a role, or any other worker, is alive at this URL."""
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False
