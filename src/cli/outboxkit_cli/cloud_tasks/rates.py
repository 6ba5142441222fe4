"""How fast a queue dispatches. Pure: the time is a number of seconds that is passed in."""

from dataclasses import dataclass
from typing import Final

# Seconds since 1970 are exact to a quarter of a microsecond, so a token that is due may lack so much of being whole.
ROUNDING: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """A queue's rate limits; the defaults are those of a queue that Google makes."""

    max_dispatches_per_second: float = 500.0
    max_concurrent_dispatches: int = 1000
    max_burst_size: int = 100

    @staticmethod
    def burst_for(rate: float) -> int:
        """Return the burst that Google sets for a rate, as far as its answers show (500: 100, 1: 10)."""
        return max(10, int(rate / 5))


class TokenBucket:
    """Holds up to `size` tokens and gains `rate` of them a second. A new one is full."""

    def __init__(self, *, rate: float, size: float, now: float) -> None:
        self._rate = rate
        self._size = size
        self._tokens = size
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._refill(now)
        if self._tokens < 1 - ROUNDING:
            return False
        self._tokens -= 1
        return True

    def ready_at(self, now: float) -> float:
        """Return when there will be a token."""
        self._refill(now)
        return now + max(0.0, 1 - self._tokens) / self._rate

    def _refill(self, now: float) -> None:
        # A clock that steps back takes nothing away.
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
