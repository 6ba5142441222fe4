"""How many jobs a worker runs at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

# Seconds that the poller waits for more slots once one is free: claims of one job at a time cost the most.
GATHER: Final = 0.005

# Seconds that a trigger waits for a slot. Short jobs free one at any moment, and a relay that is told 429 stays away for a
# second at least.
PATIENCE: Final = 0.1


class Slots:
    """A count of free places, taken before a job is claimed and given back when its run is over."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._enough = max(1, total // 4)
        self._freed = asyncio.Event()
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def reserve(self) -> bool:
        """Take a slot, waiting a moment if none is free; False when none came."""
        if self.free:
            self.free -= 1
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(future)
        patience = loop.call_later(PATIENCE, _settle, future, False)
        try:
            got = await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.result():
                self.give()  # it came at the same moment
            raise
        finally:
            patience.cancel()
        return got

    def take(self, wanted: int) -> int:
        """Take up to `wanted` slots; returns how many, 0 when all are taken."""
        taken = min(wanted, self.free)
        self.free -= taken
        return taken

    def give(self, count: int = 1) -> None:
        """Give slots back: to the triggers that wait, in their order, then to whoever asks."""
        while count and self._waiting:
            if _settle(self._waiting.popleft(), True):
                count -= 1
        self.free += count
        if count:
            self._freed.set()

    async def wait(self) -> None:
        """Return when a slot is free; when few are, a moment later, in which more may come."""
        while not self.free:
            self._freed.clear()
            await self._freed.wait()
        if self.free < self._enough:
            await asyncio.sleep(GATHER)


def _settle(future: asyncio.Future[bool], result: bool) -> bool:
    if future.done():
        return False
    future.set_result(result)
    return True
