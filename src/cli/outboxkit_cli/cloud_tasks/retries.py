"""When a failed task is tried again, and when it is given up. Pure: every time is a number of seconds that is passed in."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """A queue's or a task's retry settings; the defaults are those of a queue that Google makes. Seconds."""

    max_attempts: int = 100
    """Dispatches in all; -1 sets no limit."""
    max_retry_duration: float = 0.0
    """From the first dispatch; 0 sets no limit."""
    min_backoff: float = 0.1
    max_backoff: float = 3600.0
    max_doublings: int = 16


def backoff(config: RetryConfig, retry: int) -> float:
    """Return the seconds before the `retry`-th retry; the first is 1.

    It doubles `max_doublings` times, then grows by the last doubling's step, then stays at `max_backoff`: with 10 s, 300 s
    and 3 doublings 10, 20, 40, 80, 160, 240, 300, 300.
    """
    doublings = min(retry - 1, config.max_doublings)
    # Past some 60 doublings any backoff is beyond any maximum; a larger exponent would only overflow.
    step = config.min_backoff * 2.0 ** min(doublings, 60)
    linear = max(0, retry - 1 - config.max_doublings)
    return min(step * (1 + linear), config.max_backoff)


def exhausted(config: RetryConfig, *, attempts: int, since_first: float) -> bool:
    """Tell whether a task that has failed so often, for so long, is given up: when every limit that is set has passed."""
    limits = []
    if config.max_attempts != -1:
        limits.append(attempts >= config.max_attempts)
    if config.max_retry_duration > 0:
        limits.append(since_first >= config.max_retry_duration)
    return bool(limits) and all(limits)
