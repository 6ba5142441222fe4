"""Signs of life for the leases this process holds, from a thread that no handler can hold up."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
import psycopg

from outboxkit import leases
from outboxkit.database import conninfo
from outboxkit_worker.registry import Registry
from outboxkit_worker.runs import Run, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

# Seconds between heartbeats that are sent early because there is progress to store.
SPACING: Final = 1.0


class Heartbeats:
    """Every third of a lease: extends the leases, stores progress, and learns what was cancelled and what is lost.

    A thread and a connection of its own, so that CPU work on the event loop cannot lose the leases; past a run's deadline
    (start plus timeout) its lease is not extended, so that a loop or handler that hangs does lose it. If a heartbeat cannot
    be sent the next one is; a lease that runs out meanwhile is noticed then.
    """

    def __init__(self, url: str, *, registry: Registry, worker: UUID, lease: timedelta) -> None:
        """`url` in any spelling."""
        self._conninfo = conninfo(url)
        self._registry = registry
        self._worker = worker
        self._lease = lease
        self._interval = lease.total_seconds() / 3
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._nudged = threading.Event()
        self._thread = threading.Thread(target=self._main, name="outboxkit-heartbeats", daemon=True)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def nudge(self) -> None:
        """There is progress to store: send a heartbeat soon, at most one each second. From any thread."""
        self._nudged.set()

    async def stop(self) -> None:
        """End the thread; waits at most a moment for a heartbeat that is under way."""
        self._stopping = True
        self._nudged.set()
        await asyncio.to_thread(self._thread.join, SPACING)

    def _main(self) -> None:
        last = monotonic()
        while not self._stopping:
            if self._nudged.wait(max(0.0, last + self._interval - monotonic())):
                self._pause_until(last + min(SPACING, self._interval))
            self._nudged.clear()
            last = monotonic()
            runs = [run for run in self._registry.snapshot() if last < run.deadline]
            if runs and not self._stopping:
                self._try(runs)
        self._close()

    def _pause_until(self, moment: float) -> None:
        while not self._stopping and (left := moment - monotonic()) > 0:
            self._nudged.clear()
            self._nudged.wait(left)

    def _try(self, runs: Sequence[Run]) -> None:
        try:
            self._beat(runs)
        except Exception as error:  # noqa: BLE001 (the thread must not end; the next heartbeat may succeed)
            log.warning("a heartbeat failed, next one in %.1f s: %s", self._interval, error)
            self._close()

    def _beat(self, runs: Sequence[Run]) -> None:
        progress = [run.progress for run in runs]
        texts = [
            None if new is None or new is run.stored_progress else msgspec.json.encode(new).decode()
            for run, new in zip(runs, progress, strict=True)
        ]
        attempts = [(run.lease.id, run.lease.attempt, text) for run, text in zip(runs, texts, strict=True)]
        cancelled, lost = leases.heartbeat(self._connected(), attempts, worker=self._worker, lease=self._lease)
        for run, new in zip(runs, progress, strict=True):
            run.stored_progress = new
            if run.lease.id in lost:
                self._tell(self._registry.end_early, run.lease.id, run.lease.attempt, Stop.LOST)
            elif run.lease.id in cancelled:
                self._tell(self._registry.end_early, run.lease.id, run.lease.attempt, Stop.CANCELLED)

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process is ending
            self._loop.call_soon_threadsafe(function, *arguments)

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            # The kernel gives a connection up when nothing is acknowledged for a heartbeat's time (milliseconds): the thread
            # would wait for ever on a network that swallows packets.
            self._connection = psycopg.connect(
                self._conninfo,
                autocommit=True,
                application_name="outboxkit-worker-heartbeats",
                connect_timeout=max(2, int(self._interval)),
                tcp_user_timeout=max(1000, int(self._interval * 1000)),
            )
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
