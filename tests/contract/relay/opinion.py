"""What a relay is to hold of an endpoint after the answers it got, as the design and its decisions have it."""

from __future__ import annotations

import enum


class Fate(enum.Enum):
    """What is to become of a row whose claim still stands."""

    GONE = "gone"
    KEPT = "kept"
    COUNTED = "kept, one failure more"
    REFUSED = "buried, or gone if its job is no longer queued"


class Opinion:
    """Of one relay, which keeps it in memory: a new one begins without.

    Written from the rules, not from the code: five faults in a row open the breaker; so does the fifth refusal without an
    acknowledgement between (four are believed). While it is open a refusal is a fault. What was opened by refusals only an
    acknowledgement closes; what was opened by faults any answer of a worker. A fault counts against a row only if something
    has been acknowledged since the row's previous fault.
    """

    def __init__(self) -> None:
        self.open = False
        self.acks = 0
        self._by_refusals = False
        self._faults = 0
        self._refusals = 0
        self._faulted_at: dict[int, int] = {}

    def hears(self, action: str, row: int) -> Fate:
        """An answer that asks for this action about the row; what is to become of it."""
        if action == "ack":
            self.acks += 1
            self.open = self._by_refusals = False
            self._faults = self._refusals = 0
            return Fate.GONE
        if action == "dead-letter" and not self.open:
            self._faults = 0
            self._refusals += 1
            if self._refusals <= 4:
                return Fate.REFUSED
            self.open = self._by_refusals = True
        elif action in {"dead-letter", "endpoint-fault"}:
            self._faults += 1
            self.open = self.open or self._faults >= 5
        else:
            self._faults = 0
            self.open = self._by_refusals
            return Fate.COUNTED if action == "retry" else Fate.KEPT
        return Fate.COUNTED if self._counts(row) else Fate.KEPT

    def _counts(self, row: int) -> bool:
        before, self._faulted_at[row] = self._faulted_at.get(row), self.acks
        return before is not None and self.acks > before
