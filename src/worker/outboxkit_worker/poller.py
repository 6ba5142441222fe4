"""The poller: claims due jobs by itself. The whole of db mode, and the safety net of the modes that push."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Final
from uuid import UUID

from outboxkit import leases
from outboxkit.handlers import Handlers
from outboxkit.modes import Mode
from outboxkit_worker.connections import Connection, Connections
from outboxkit_worker.draining import Draining
from outboxkit_worker.effective_mode import EffectiveMode
from outboxkit_worker.registry import Registry
from outboxkit_worker.runner import Runner
from outboxkit_worker.slots import Slots

log = logging.getLogger(__name__)

# Seconds after a round that failed.
_PAUSE: Final = 1.0


class Poller:
    """Always runs, whatever the mode is: it may change at any time."""

    def __init__(
        self,
        connections: Connections,
        *,
        runner: Runner,
        registry: Registry,
        slots: Slots,
        handlers: Handlers,
        worker: UUID,
        lease: timedelta,
        mode: EffectiveMode,
        interval: float,
        safety_interval: float,
        wake: asyncio.Event,
        draining: Draining,
    ) -> None:
        """Intervals in seconds; jobs count as overdue, in the modes that push, after `safety_interval`."""
        self._connections = connections
        self._runner = runner
        self._registry = registry
        self._slots = slots
        self._handlers = handlers
        self._worker = worker
        self._lease = lease
        self._mode = mode
        self._interval = interval
        self._safety_interval = safety_interval
        self._wake = wake
        self._draining = draining
        self._safety_due = monotonic() + safety_interval
        self._claiming: asyncio.Task[bool] | None = None

    async def run(self) -> None:
        """Poll until cancelled; a claim that is under way then goes on, see `flushed`."""
        while True:
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 (the database may be away; polling must outlive that)
                log.warning("polling failed, trying again in %.1f s: %s", _PAUSE, error)
                await asyncio.sleep(_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            # Before the claim: what is committed after it must wake the next round.
            self._wake.clear()

    async def flushed(self) -> None:
        """Returns when no claim is under way."""
        if self._claiming is not None:
            await asyncio.gather(self._claiming, return_exceptions=True)  # what it raised, the round has logged

    async def _round(self) -> None:
        """Claim until nothing is left that is to be claimed now."""
        while len(self._handlers):
            overdue = self._overdue(await self._mode.read())
            if overdue is None:
                return
            await self._slots.wait()
            if self._draining.begun:
                return
            self._claiming = asyncio.create_task(self._claim(overdue))
            # Shielded: a claim that is cut off would leave jobs claimed that nobody runs.
            if not await asyncio.shield(self._claiming):
                self._safety_due = monotonic() + self._safety_interval
                return

    def _overdue(self, mode: Mode) -> float | None:
        """How long a job must have been due to be claimed now, in seconds; None: nothing is to be claimed."""
        if mode is Mode.DB:
            return 0.0
        if mode is Mode.NONE or monotonic() < self._safety_due:
            return None
        return self._safety_interval

    async def _claim(self, overdue: float) -> bool:
        """Claim for the free slots; returns whether every one was used."""
        taken, claimed = self._slots.take(self._slots.total), 0
        try:
            got = await self._connections.run(lambda connection: self._execute(connection, taken, overdue))
            for lease in got:
                claimed += 1
                self._runner.start(lease)
        finally:
            self._slots.give(taken - claimed)
        return claimed == taken

    async def _execute(self, connection: Connection, slots: int, overdue: float) -> list[leases.Lease]:
        if self._draining.begun:  # since the round began: it may have waited for the connection
            return []
        return await leases.claim_due(
            connection,
            slots=slots,
            handlers=self._handlers,
            worker=self._worker,
            lease=self._lease,
            overdue=timedelta(seconds=overdue),
            excluded=self._registry.stale(),
        )
