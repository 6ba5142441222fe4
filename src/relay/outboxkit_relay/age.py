"""The age of a trigger, in time that its endpoint could have been served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic


class ServiceTime:
    """Tells how far back a span of service time reaches. Time stands still while the service is paused.

    Counted from this process's start: what an earlier one could deliver is not known, and a restart in the middle of an
    outage (or after a day in db mode) must not bury what waited it out.
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """The service begins paused."""
        self._clock = clock
        self._running_since: float | None = None
        self._spans: deque[tuple[float, float]] = deque()

    @property
    def running(self) -> bool:
        """Whether time goes on."""
        return self._running_since is not None

    def resume(self) -> None:
        """Triggers are being delivered."""
        if self._running_since is None:
            self._running_since = self._clock()

    def pause(self) -> None:
        """Triggers are not being delivered: the breaker is open, or the mode is another."""
        if self._running_since is not None:
            self._spans.append((self._running_since, self._clock()))
            self._running_since = None

    def reach(self, seconds: float) -> float | None:
        """How many seconds ago so much service time began; None when there has not been so much."""
        now = self._clock()
        spans = [*self._spans, *([(self._running_since, now)] if self._running_since is not None else [])]
        left = seconds
        for position in range(len(spans) - 1, -1, -1):
            begin, end = spans[position]
            if end - begin >= left:
                self._forget(position)
                return now - (end - left)
            left -= end - begin
        return None

    def _forget(self, before: int) -> None:
        # Older spans are beyond every later reach of the same length.
        for _ in range(min(before, len(self._spans))):
            self._spans.popleft()
