"""The trigger mode in force, as this worker knows it."""

from __future__ import annotations

from time import monotonic
from typing import Final

from outboxkit import modes
from outboxkit.modes import Mode, PublishedMode
from outboxkit_worker.connections import Connections

# Seconds for which what was read is good enough.
FRESH: Final = 2.0


class EffectiveMode:
    """What a live relay has published, else the override, else this worker's own JOB_TRIGGER_MODE; read now and then."""

    def __init__(self, connections: Connections, *, own: Mode) -> None:
        self._connections = connections
        self._own = own
        self._published = PublishedMode(None, None, [], False)
        self._read_at = -FRESH

    @property
    def known(self) -> Mode:
        """The mode as last read; the worker's own before that."""
        return self._published.effective_or(self._own)

    @property
    def configured(self) -> bool:
        """False when a live relay says that the mode asked for lacks some of its variables."""
        return not (self._published.fresh and self._published.problems)

    async def read(self) -> Mode:
        """The mode, at most FRESH seconds old. Raises psycopg.Error."""
        if monotonic() - self._read_at >= FRESH:
            self._published = await self._connections.run(modes.read)
            self._read_at = monotonic()
        return self.known
