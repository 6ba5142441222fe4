"""The relay as a process: what `outboxkit relay` runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import msgspec
import psycopg

from outboxkit import listening, processes, sweeps, tasks
from outboxkit.modes import Mode
from outboxkit.processes import Process
from outboxkit_relay import triggers
from outboxkit_relay.assembly import Parts, assembled
from outboxkit_relay.drain import Drain
from outboxkit_relay.health import HealthSide
from outboxkit_relay.mode import InForce
from outboxkit_relay.publication import HEARTBEAT, Publication
from outboxkit_relay.settings import RelaySettings

log = logging.getLogger(__name__)

# After the grace, what is left (seconds) to write down what came of the last deliveries, and again to say goodbye.
LAST_WORDS: Final = 0.75


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of `once` did."""

    mode: Mode
    delivered: int = 0
    retried: int = 0
    """Deliveries that ended with another try later."""
    dead: int = 0
    """Triggers that got a dead letter."""
    failed_due: int = 0
    """Triggers that were due and could not be delivered: left when time was up or the breaker opened, or met a fault."""
    healed: int = 0
    """Jobs that a sweep requeued, re-armed or failed."""
    deleted: int = 0
    """Jobs past their retention."""
    problems: list[str] = []
    """What keeps the mode that was asked for from being in force."""

    @property
    def complete(self) -> bool:
        """Whether everything due was delivered, in the mode that was asked for.

        Future triggers, and those a worker asked to send later, do not matter.
        """
        return self.failed_due == 0 and not self.problems


class Relay:
    """Delivers triggers, sweeps, and publishes the mode in force.

    `run` needs no database to start and outlives its restarts. Any number of relays share one outbox. If the process dies,
    the rows it had claimed come due again when their lease is over (G4); a row may then be delivered twice.
    """

    def __init__(self, *, settings: RelaySettings) -> None:
        """Nothing is opened before `run` or `once`."""
        self.settings = settings
        self.process = Process(role="relay")

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then end in order.

        Nothing is claimed any more, deliveries under way may end within the grace, the rest is given back, what came of it
        is written, and the process row goes. Raises OSError when its port is taken, and what a part of the relay died of;
        that is a bug.
        """
        self._warn()
        async with assembled(self.settings, process=self.process) as parts, AsyncExitStack() as stack:
            publication = self._publication(parts)
            if self.settings.port is not None:
                health = HealthSide(pool=parts.pool, in_force=lambda: publication.in_force)
                await stack.enter_async_context(health.listening(host=self.settings.host, port=self.settings.port))
            drains = [asyncio.create_task(drain.run(), name="drain") for drain in parts.drains]
            others = [asyncio.create_task(work) for work in self._background(parts, publication)]
            waiting = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({waiting, *drains, *others}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for drain in parts.drains:
                    drain.stop(grace=self.settings.grace)
                if drains:
                    await asyncio.wait(drains, timeout=self.settings.grace + LAST_WORDS)
                await self._finish(parts)
                everything = [*drains, *others, waiting]
                await tasks.end(*everything)
                _raise_first(everything)

    async def once(self, max_seconds: float | None = None) -> Drained:
        """Heal, deliver everything that is due, retire what is past its retention, and return.

        `max_seconds` bounds the deliveries; those under way then still have the grace. A breaker that opens ends them too.
        In the modes db and none there are only the sweeps. Raises psycopg.Error when the database is away.
        """
        self._warn()
        async with assembled(self.settings, process=self.process) as parts:
            publication = self._publication(parts)
            async with parts.pool.connection() as connection:
                await publication.refresh(connection)
                swept = await sweeps.heal(connection, self.settings.sweep_limits)
            mode = publication.in_force.mode if publication.in_force is not None else Mode.DB
            drains = [drain for drain in parts.drains if drain.mode is mode]
            await self._drain(drains, max_seconds)
            await parts.settlement.drained()
            async with parts.pool.connection() as connection:
                deleted = await sweeps.retire(connection, self.settings.sweep_limits)
                left = await self._left(connection, drains)
            await self._finish(parts)
            totals = parts.stats.totals
            return Drained(
                mode=mode,
                delivered=totals.get("ack", 0),
                retried=sum(totals.get(name, 0) for name in ("retry", "retry-then", "slow-down", "endpoint-fault")),
                dead=parts.settlement.buried,
                failed_due=left,
                healed=swept.requeued + swept.failed + swept.cancelled + swept.rearmed + swept.stranded,
                deleted=deleted,
                problems=publication.in_force.problems if publication.in_force is not None else [],
            )

    async def _drain(self, drains: list[Drain], max_seconds: float | None) -> None:
        work = asyncio.gather(*(drain.run_until_empty() for drain in drains))
        await asyncio.wait({work}, timeout=max_seconds)
        for drain in drains:
            drain.stop(grace=self.settings.grace)
        await work

    async def _left(self, connection: triggers.Connection, drains: list[Drain]) -> int:
        due = [await triggers.count_due(connection, drain.endpoint.queues) for drain in drains]
        return sum(due) + sum(drain.failed for drain in drains)

    def _publication(self, parts: Parts) -> Publication:
        def apply(in_force: InForce) -> None:
            for drain in parts.drains:
                if drain.mode is in_force.mode:
                    drain.resume()
                else:
                    drain.pause()

        def details() -> dict[str, Any]:
            return {
                "endpoints": [drain.describe() for drain in parts.drains],
                "outcomes": parts.stats.totals,
                "fence_misses": parts.settlement.missed,
            }

        return Publication(settings=self.settings, process=self.process, apply=apply, details=details)

    def _background(self, parts: Parts, publication: Publication) -> Iterable[Coroutine[Any, Any, None]]:
        heard, woken = asyncio.Event(), asyncio.Event()
        yield listening.listen(self.settings.listen_url.reveal(), heard, application_name="outboxkit relay listening")
        yield _pass_on(heard, woken, parts.drains)
        yield publication.keep(parts.pool, woken)
        yield sweeps.sweep_for_ever(parts.pool, self.settings.sweep_limits, interval=self.settings.sweep_interval)
        yield _flush_for_ever(parts)

    async def _finish(self, parts: Parts) -> None:
        """Write what is still to be written, and say goodbye; gives up when the database is away."""
        with suppress(TimeoutError, psycopg.Error):
            async with asyncio.timeout(LAST_WORDS):
                await parts.settlement.drained()
        with suppress(TimeoutError, psycopg.Error):
            async with asyncio.timeout(LAST_WORDS), parts.pool.connection() as connection:
                await parts.stats.flush(connection)
                await processes.forget(connection, self.process)

    def _warn(self) -> None:
        for warning in self.settings.warnings():
            log.warning("%s", warning)


async def _pass_on(heard: asyncio.Event, woken: asyncio.Event, drains: list[Drain]) -> None:
    """Turn one wake-up into one for each that waits."""
    while True:
        await heard.wait()
        heard.clear()
        woken.set()
        for drain in drains:
            drain.wake()


async def _flush_for_ever(parts: Parts) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT)
        try:
            async with parts.pool.connection() as connection:
                await parts.stats.flush(connection)
        except psycopg.Error as error:
            log.info("the statistics are not written yet: %s", error)


def _raise_first(ended: list[asyncio.Task[Any]]) -> None:
    """Raise what one of them died of, if one did."""
    for task in ended:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
