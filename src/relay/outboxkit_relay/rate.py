"""Limits on triggers a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Final, Protocol

# Seconds' worth of tokens to gather before they are spent.
WORTHWHILE: Final = 0.05


class Rate(Protocol):
    """Says how many triggers may be sent now."""

    def available(self) -> int:
        """How many may be sent now."""
        ...

    def spend(self, tokens: int) -> None:
        """So many of those are sent."""
        ...

    def wait(self) -> float:
        """Seconds until enough may be sent to be worth a statement."""
        ...


class Ramp:
    """The 500/50/5 rule: 500 a second from the start, and beyond that at most half as much again every five minutes.

    A queue of Cloud Tasks is spread over more machines while its traffic grows; traffic that grows faster meets errors and
    latency (Google, "Manage scaling risks": 500/50/5). A period's limit is one and a half times what was sent in the period
    before, on average, and never below 500: so it also falls again with the traffic.

    In memory and each relay's own: with several relays the queue sees the sum.
    """

    START: Final = 500.0
    GROWTH: Final = 1.5
    PERIOD: Final = 300.0

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """The first period begins now."""
        self._clock = clock
        self._began = clock()
        self._sent = 0
        self._limit = self.START

    def sent(self, triggers: int) -> None:
        """So many were sent."""
        self.limit()
        self._sent += triggers

    def limit(self) -> float:
        """Triggers a second that are allowed now."""
        passed = int((self._clock() - self._began) // self.PERIOD)
        if passed > 0:
            # Of several periods the last had no traffic: nobody has asked since.
            average = self._sent / self.PERIOD if passed == 1 else 0.0
            self._limit = max(self.START, average * self.GROWTH)
            self._began += passed * self.PERIOD
            self._sent = 0
        return self._limit


class TokenBucket:
    """Lets so many tokens a second through, and a second's worth at once after a quiet time."""

    def __init__(self, rate: float = inf, *, ramp: Ramp | None = None, clock: Callable[[], float] = monotonic) -> None:
        """`rate` tokens a second, or what the ramp allows when that is less. One of the two is given."""
        self._fixed = rate
        self._ramp = ramp
        self._clock = clock
        self._tokens = max(1.0, self._rate())
        self._at = clock()

    def available(self) -> int:
        """Whole tokens there are now."""
        now, rate = self._clock(), self._rate()
        self._tokens = min(max(1.0, rate), self._tokens + max(0.0, now - self._at) * rate)
        self._at = now
        return int(self._tokens)

    def spend(self, tokens: int) -> None:
        """Take tokens that `available` said were there."""
        self._tokens -= tokens
        if self._ramp is not None:
            self._ramp.sent(tokens)

    def wait(self) -> float:
        """Seconds until there are tokens worth a statement: one twentieth of a second's, at least one."""
        rate = self._rate()
        wanted = max(1, int(rate * WORTHWHILE))
        return 0.0 if self.available() >= wanted else (wanted - self._tokens) / rate

    def _rate(self) -> float:
        return self._fixed if self._ramp is None else min(self._fixed, self._ramp.limit())


class Combined:
    """Several limits at once."""

    def __init__(self, rates: Sequence[Rate]) -> None:
        self._rates = rates

    def available(self) -> int:
        """What all of them allow."""
        return min(rate.available() for rate in self._rates)

    def spend(self, tokens: int) -> None:
        """Spent from each."""
        for rate in self._rates:
            rate.spend(tokens)

    def wait(self) -> float:
        """Until the last of them allows something worth a statement."""
        return max(rate.wait() for rate in self._rates)
