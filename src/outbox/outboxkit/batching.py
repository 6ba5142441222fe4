"""Micro-batching: concurrent callers share one statement."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


class MicroBatcher(Generic[T, R]):
    """Gathers what concurrent callers submit, and hands it on in batches of up to `size`, at most `in_flight` at a time.

    A lone item in an idle system goes at once: nothing waits for a batch to fill, only for a free place in flight, unless
    `linger` says so.
    `flush` takes the items and returns one result each, in order; when it raises, every item of a batch of one gets the
    error, and a larger batch is tried again item by item (†: one poisoned row must not kill its neighbours).
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        size: int = 200,
        in_flight: int = 2,
        separable: Callable[[BaseException], bool] = lambda _error: False,
        linger: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`separable` tells whether an error may be one item's fault, so that trying the others alone makes sense.

        `linger` is asked before each batch that is not full: the seconds to wait for more, where nobody waits.
        """
        self._flush = flush
        self._size = size
        self._in_flight = in_flight
        self._separable = separable
        self._linger = linger
        self._waiting: list[tuple[T, asyncio.Future[R] | None]] = []
        self._flights: set[asyncio.Task[None]] = set()
        self._flying = 0

    async def submit(self, item: T) -> R:
        """The result for this item. If the caller is cancelled meanwhile, the item is flushed all the same."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._enter(item, future)
        # Not shielded: if the caller is cancelled only its future is, and what was flushed for it is not wanted any more.
        return await future

    def put(self, item: T) -> None:
        """Hand in an item without waiting for its result; an error of its flush is logged and nothing more."""
        self._enter(item, None)

    async def drained(self) -> None:
        """Returns when nothing waits and nothing is in flight."""
        while self._flights:
            await asyncio.wait(self._flights)

    def _enter(self, item: T, future: asyncio.Future[R] | None) -> None:
        self._waiting.append((item, future))
        # Not len(self._flights): a flight that has ended leaves that set one turn of the loop later, and an item that came
        # in between would wait for the next one.
        if self._flying < self._in_flight:
            self._launch()

    def _launch(self) -> None:
        self._flying += 1
        flight = asyncio.create_task(self._fly())
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)

    async def _fly(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < self._size and (pause := self._linger()) > 0:
                    await asyncio.sleep(pause)
                batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
                await self._deliver(batch)
        finally:
            self._flying -= 1

    async def _deliver(self, batch: list[tuple[T, asyncio.Future[R] | None]]) -> None:
        if not batch:  # another flight took what this one lingered for
            return
        try:
            results = await self._results(batch)
        except Exception as error:  # noqa: BLE001 (each caller gets it)
            if len(batch) > 1 and self._separable(error):
                for entry in batch:
                    await self._deliver([entry])
            else:
                _fail(batch, error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if future is not None and not future.done():
                future.set_result(result)

    async def _results(self, batch: list[tuple[T, asyncio.Future[R] | None]]) -> Sequence[R]:
        try:
            results = await self._flush([item for item, _ in batch])
        except asyncio.CancelledError:
            # The flight was cancelled: nobody else would ever answer those who wait for it.
            for _, future in batch:
                if future is not None:
                    future.cancel()
            raise
        if len(results) != len(batch):
            raise RuntimeError(f"flush returned {len(results)} results for {len(batch)} items")
        return results


def _fail(batch: list[tuple[T, asyncio.Future[R] | None]], error: Exception) -> None:
    if any(future is None for _, future in batch):
        log.error("a batch of %d failed", len(batch), exc_info=error)
    for _, future in batch:
        if future is not None and not future.done():
            future.set_exception(error)
