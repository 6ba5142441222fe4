"""The roll-up of deliveries: counts by minute, mode and outcome, with a histogram of latency."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final
from uuid import UUID

from outboxkit import queries
from outboxkit_relay.triggers import Connection

BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000)
"""Upper bounds in milliseconds, each inclusive; one more bucket has what took longer. What is stored depends on them."""


class Stats:
    """Counts in memory, written by `flush` every few seconds and never in the way of settlement.

    If the process dies, the counts since the last flush are lost; nothing else depends on them.
    """

    def __init__(self, *, relay: UUID) -> None:
        """`relay` is this process's id: one row each, so that relays never wait for one another."""
        self._relay = relay
        self._counts: dict[tuple[str, str], list[int]] = {}
        self.totals: dict[str, int] = {}

    def count(self, mode: str, outcome: str, *, seconds: float | None = None) -> None:
        """One delivery; `seconds` from due to acknowledged, for the histogram."""
        # The first place counts deliveries, the others are the buckets.
        counts = self._counts.get((mode, outcome))
        if counts is None:
            counts = self._counts[(mode, outcome)] = [0] * (len(BUCKETS) + 2)
        counts[0] += 1
        if seconds is not None:
            counts[1 + bisect_left(BUCKETS, seconds * 1000.0)] += 1
        self.totals[outcome] = self.totals.get(outcome, 0) + 1

    async def flush(self, connection: Connection) -> None:
        """Add what was counted since the last time; when that fails it is kept for the next time."""
        counted, self._counts = self._counts, {}
        if not counted:
            return
        try:
            await connection.execute(
                queries.load("record_stats"),
                {
                    "relay": self._relay,
                    "modes": [mode for mode, _ in counted],
                    "outcomes": [outcome for _, outcome in counted],
                    "triggers": [counts[0] for counts in counted.values()],
                    "latencies": ["{" + ",".join(map(str, counts[1:])) + "}" for counts in counted.values()],
                },
            )
        except BaseException:
            self._restore(counted)
            raise

    def _restore(self, counted: dict[tuple[str, str], list[int]]) -> None:
        for key, counts in counted.items():
            since = self._counts.get(key)
            self._counts[key] = counts if since is None else [a + b for a, b in zip(counts, since, strict=True)]
