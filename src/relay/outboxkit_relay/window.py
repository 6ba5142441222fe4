"""How many deliveries one endpoint gets at once."""

from __future__ import annotations


class Window:
    """Additive increase, multiplicative decrease, as TCP does it (RFC 5681 §3.1): finds what a full worker can take.

    Begins at the largest size. A worker that says it is full halves the window, once for all that was sent before; each
    window's worth of acks widens it by one again. Never below one.
    """

    def __init__(self, size: int) -> None:
        """`size` is the largest number of deliveries at once, and the first."""
        self._largest = float(size)
        self._size = float(size)
        self._halved_at = float("-inf")

    @property
    def size(self) -> int:
        """Deliveries allowed at once now."""
        return int(self._size)

    def acked(self) -> None:
        """A delivery succeeded."""
        if self._size < self._largest:
            self._size = min(self._largest, self._size + 1.0 / self._size)

    def full(self, *, sent_at: float, now: float) -> None:
        """A delivery that was sent at `sent_at` was turned away because the worker is full."""
        if sent_at >= self._halved_at:
            self._size = max(1.0, self._size / 2)
            self._halved_at = now
