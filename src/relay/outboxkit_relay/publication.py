"""Keeps the mode in force, and tells the others about it and about this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import psycopg

from outboxkit import modes, processes
from outboxkit.processes import Process
from outboxkit_relay.mode import InForce, judge
from outboxkit_relay.settings import RelaySettings
from outboxkit_relay.triggers import Connection, Pool

log = logging.getLogger(__name__)

# Between two signs of life. Readers take a relay for dead after modes.FRESH, six times this.
HEARTBEAT: Final = 5.0


class Publication:
    """Reads the override at every poll, publishes the mode at every change and heartbeat.

    Until the first reading no mode is in force: a relay that cannot read the override sends nothing. When the database goes
    away later, the last mode stays. If the process dies, its word counts for modes.FRESH more.
    """

    def __init__(
        self,
        *,
        settings: RelaySettings,
        process: Process,
        apply: Callable[[InForce], None],
        details: Callable[[], dict[str, Any]],
    ) -> None:
        """`apply` is called with every new mode; `details` are what people are told of the process."""
        self._settings = settings
        self._process = process
        self._apply = apply
        self._details = details
        self.in_force: InForce | None = None
        self._published_at = float("-inf")

    async def refresh(self, connection: Connection) -> None:
        """Read the override, and publish when something changed or a heartbeat is due."""
        override = (await modes.read(connection)).override
        found = judge(self._settings, override)
        changed = found != self.in_force
        if changed:
            self.in_force = found
            log.info("mode in force: %s", found.mode)
            for problem in found.problems:
                log.error("the mode is %s: %s", found.mode, problem)
            self._apply(found)
        if changed or monotonic() - self._published_at >= HEARTBEAT:
            await modes.publish(connection, found.mode, process=self._process.id, problems=found.problems)
            details = {"mode": found.mode, "problems": found.problems, **self._details()}
            await processes.record(connection, self._process, details)
            self._published_at = monotonic()

    async def keep(self, pool: Pool, woken: asyncio.Event) -> None:
        """Refresh at every poll until cancelled, and when woken, at most once a second."""
        while True:
            try:
                async with pool.connection() as connection:
                    await self.refresh(connection)
            except psycopg.Error as error:
                log.warning("the mode cannot be read or published: %s", error)
            poll = min(self._settings.poll, HEARTBEAT)
            spacing = min(poll, 1.0)
            await asyncio.sleep(spacing)
            with suppress(TimeoutError):
                async with asyncio.timeout(poll - spacing):
                    await woken.wait()
            woken.clear()
