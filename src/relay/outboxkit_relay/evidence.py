"""Whether a fault may be held against a row."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

# Rows remembered; what is forgotten counts as never faulted, which errs on the row's side.
REMEMBERED: Final = 10_000


class Evidence:
    """Remembers when each row met an endpoint fault, in acks of the endpoint.

    † A fault counts as the row's failure only if the endpoint has acked another row since that row's previous fault: then
    the endpoint works, and the row may be what breaks it. Behind a dead endpoint nothing is acked, and nothing counts.

    In memory and each relay's own: a restart, or another relay, begins anew. A row that crashes its worker is still found
    out, a few deliveries later.
    """

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self._acks = 0
        self._remembered = remembered
        self._seen: OrderedDict[int, int] = OrderedDict()

    def acked(self) -> None:
        """The endpoint took a trigger."""
        self._acks += 1

    def counts(self, row: int) -> bool:
        """The row has met a fault: whether it counts against the row."""
        before = self._seen.pop(row, None)
        self._seen[row] = self._acks
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return before is not None and self._acks > before
