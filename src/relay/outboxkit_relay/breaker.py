"""The breaker of one endpoint: a broken endpoint is not a broken message (G6).

A pure state machine: it knows a clock and a source of jitter, and nothing of HTTP or of rows.

        ack ──────────────┐                        fault, refusal: a longer wait
         ▼                │                       ┌──────────────┐
      CLOSED ── N faults in a row ─────────▶ OPEN ┴─ wait over ─▶ PROBING
         ▲      or the 5th refusal in a row       ◀───────────────┘
         └── ack; after faults also any answer of a worker ───────┘
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from time import monotonic
from typing import Final

# † Dead-letter answers in a row, without an ack between them, that are believed: one more is a bad release of the worker,
# not a fifth bad message.
BELIEVED_REFUSALS: Final = 4


class State(enum.Enum):
    """What may be sent to the endpoint."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing until the wait is over."""
    PROBING = "probing"
    """One trigger is on its way, to see."""


class Breaker:
    """Counts what an endpoint's answers say about the endpoint, and stops sending when it is broken.

    A *fault* is no answer, or none of our worker's. A *refusal* is an answer that asks for a dead letter. The first four in
    a row are believed; the fifth opens the breaker, and while it is open refusals count as faults: so a worker that refuses
    everything costs at most four dead letters for each relay, and none more until it has acked something. After refusals
    only an ack closes the breaker; after faults any answer of a worker does, because what was broken then plainly works.

    Nothing is kept across a restart: a new process finds out for itself, at the price of a few deliveries.
    """

    def __init__(
        self,
        *,
        faults: int,
        base: float,
        longest: float,
        clock: Callable[[], float] = monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Opens after so many faults in a row. The n-th wait is half to all of min(longest, base · 2ⁿ) seconds."""
        self._limit = faults
        self._base = base
        self._longest = longest
        self._clock = clock
        self._uniform = uniform
        self.state = State.CLOSED
        self._faults = 0
        self._refusals = 0
        self._waits = 0
        self._refused = False
        self._opened_at = self._pause = 0.0

    @property
    def is_open(self) -> bool:
        """Whether nothing but a probe may be sent."""
        return self.state is not State.CLOSED

    def acked(self) -> None:
        """The endpoint took a trigger: everything counts from zero, whatever the state was."""
        self.state = State.CLOSED
        self._faults = self._refusals = self._waits = 0
        self._refused = False

    def answered(self) -> None:
        """A worker answered, and neither took nor refused the trigger: retry later, full, not due."""
        self._faults = 0
        if not self.is_open:
            return
        if not self._refused:
            self.state, self._waits = State.CLOSED, 0
        elif self.state is State.PROBING:
            self._open(None)

    def faulted(self, *, retry_after: float | None = None) -> None:
        """No worker answered. `retry_after` in seconds, if the endpoint named one, is waited for up to the longest wait."""
        self._faults += 1
        if self.state is State.PROBING or (self.state is State.CLOSED and self._faults >= self._limit):
            self._open(retry_after)

    def refused(self) -> bool:
        """A worker asked for a dead letter. Whether that is to be believed; if not, the row is to be kept."""
        if self.is_open:
            self.faulted()
            return False
        self._faults = 0
        self._refusals += 1
        if self._refusals <= BELIEVED_REFUSALS:
            return True
        self._refused = True
        self._open(None)
        return False

    def wait(self) -> float:
        """Seconds until a probe may go: nothing when one may go now, infinity while one is under way."""
        if self.state is State.PROBING:
            return float("inf")
        # Not an instant compared with the clock: the sum of the two would be rounded, and the wait a little too long.
        return max(0.0, self._pause - (self._clock() - self._opened_at))

    def probe(self) -> None:
        """A probe is about to be sent; what happens to it must be told."""
        self.state = State.PROBING

    def spared(self) -> None:
        """The probe was not sent after all; the next one may go at once."""
        if self.state is State.PROBING:
            self.state = State.OPEN

    def _open(self, retry_after: float | None) -> None:
        ceiling = min(self._longest, self._base * 2.0 ** min(self._waits, 60))
        wait = max(self._uniform(ceiling / 2, ceiling), min(retry_after or 0.0, self._longest))
        self._waits += 1
        self._opened_at, self._pause = self._clock(), wait
        self.state = State.OPEN
