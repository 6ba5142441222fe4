"""A limit on triggers a second."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

# Seconds' worth of tokens to gather before they are spent.
WORTHWHILE: Final = 0.05


class TokenBucket:
    """Lets `rate` tokens a second through, and a second's worth at once after a quiet time."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._tokens = self._size
        self._clock = clock
        self._at = clock()

    def available(self) -> int:
        """Whole tokens there are now."""
        now = self._clock()
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        return int(self._tokens)

    def spend(self, tokens: int) -> None:
        """Take tokens that `available` said were there."""
        self._tokens -= tokens

    def wait(self) -> float:
        """Seconds until there are tokens worth a statement: one twentieth of a second's, at least one."""
        wanted = max(1, int(self._rate * WORTHWHILE))
        return 0.0 if self.available() >= wanted else (wanted - self._tokens) / self._rate
