"""Everything behind the worker's HTTP face that needs the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg

from outboxkit import processes, tasks, wakeups
from outboxkit.application import Application
from outboxkit.database import create_engine
from outboxkit.listening import listen
from outboxkit.processes import Process
from outboxkit.sweeps import SweepLimits, sweep_for_ever
from outboxkit.wakeups import CHANNEL
from outboxkit_worker.claims import Claims
from outboxkit_worker.connections import Connections
from outboxkit_worker.draining import Draining
from outboxkit_worker.effective_mode import EffectiveMode
from outboxkit_worker.heartbeats import Heartbeats
from outboxkit_worker.poller import Poller
from outboxkit_worker.recording import Recorder
from outboxkit_worker.registry import Registry
from outboxkit_worker.runner import Runner
from outboxkit_worker.session import Sessions
from outboxkit_worker.settings import WorkerSettings
from outboxkit_worker.slots import Slots
from outboxkit_worker.verdicts import Backoff

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = logging.getLogger(__name__)

# Seconds between signs of life of the process; others take it for dead after 30.
SIGN_OF_LIFE: Final = 10.0

# Seconds that cancelled handlers get to clean up at shutdown, and the database to take note.
CLEANUP: Final = 1.0


class Service:
    """The parts, wired; `running` starts and stops them."""

    def __init__(self, url: str, *, settings: WorkerSettings, application: Application, draining: Draining) -> None:
        """`url` in any spelling. Needs a running event loop; connects to nothing."""
        lease = timedelta(seconds=settings.lease)
        self._settings = settings
        self._draining = draining
        self._wake = asyncio.Event()
        self.process = Process(role="worker")
        self.handlers = application.handlers
        self.slots = Slots(settings.concurrency)
        self.registry = Registry()
        self.connections = Connections(url)
        self.mode = EffectiveMode(self.connections, own=settings.mode)
        self._engine = _engine(url, settings)
        self._recorder = Recorder(self.connections, worker=self.process.id)
        self._heartbeats = Heartbeats(url, registry=self.registry, worker=self.process.id, lease=lease)
        self.runner = Runner(
            handlers=self.handlers,
            sessions=Sessions(self._engine, worker=self.process.id),
            recorder=self._recorder,
            registry=self.registry,
            slots=self.slots,
            backoff=Backoff(settings.backoff, settings.backoff_max),
            on_progress=self._heartbeats.nudge,
        )
        shared: dict[str, Any] = {
            "runner": self.runner,
            "slots": self.slots,
            "handlers": self.handlers,
            "worker": self.process.id,
            "lease": lease,
        }
        self.claims = Claims(self.connections, **shared)
        self._poller = Poller(
            self.connections,
            **shared,
            registry=self.registry,
            mode=self.mode,
            interval=settings.poll_interval,
            safety_interval=settings.safety_poll,
            wake=self._wake,
            draining=draining,
        )
        self._lifespan = application.lifespan

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything, whether the database is there or not; at the end, finish what runs or give it back."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._engine.dispose)
            stack.push_async_callback(wakeups.drained)
            self.runner.app = await stack.enter_async_context(self._lifespan(self._engine))
            await self.connections.open()
            stack.push_async_callback(self.connections.close)
            self._heartbeats.start()
            stack.push_async_callback(self._heartbeats.stop)
            background = [asyncio.create_task(loop) for loop in self._loops()]
            polling = asyncio.create_task(self._poller.run())
            self._draining.work_over = self._work_over
            try:
                yield
            finally:
                self._draining.work_over = None
                self._draining.begin()
                await tasks.end(polling)
                await self._finish()
                await tasks.end(*background)
                await self._say_goodbye()

    def _loops(self) -> list[Any]:
        settings = self._settings
        limits = SweepLimits(
            stranded_after=timedelta(seconds=settings.stranded_after),
            stranded_max=settings.stranded_max,
            keep_finished=settings.retention,
        )
        assert settings.listen_url is not None  # noqa: S101 (there is a database)
        return [
            listen(settings.listen_url.reveal(), self._wake, application_name="outboxkit-worker-listen"),
            sweep_for_ever(self.connections.pool, limits, interval=settings.sweep_interval),
            self._show_signs_of_life(),
        ]

    async def _work_over(self) -> None:
        """Returns when nothing runs any more, or the grace is over, or somebody is in a hurry."""
        await self._poller.flushed()
        await self.claims.flushed()
        await self.registry.finish(lambda: self._draining.remaining, self._draining.hurry)

    async def _finish(self) -> None:
        """Let the running jobs finish within the grace, and give the others back."""
        await self._work_over()
        running = len(self.registry)
        if running:
            log.info("giving %d running jobs back", running)
            left = await self.registry.end_all(within=CLEANUP)
            # Their handlers take their time over being cancelled; what they come to will be refused.
            await asyncio.gather(*(self._recorder.give_back(run.lease) for run in left), return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP):
                await self._recorder.flushed()
        if running:
            await self._notify()

    async def _notify(self) -> None:
        with suppress(psycopg.Error):  # whoever listens also polls
            await self.connections.run(lambda c: c.execute("select pg_notify(%s, '')", [CHANNEL]))

    async def _show_signs_of_life(self) -> None:
        while True:
            try:
                await self.connections.run(lambda c: processes.record(c, self.process, self._details()))
            except Exception as error:  # noqa: BLE001 (the database may be away; this must outlive that)
                log.info("no sign of life was recorded: %s", error)
            await asyncio.sleep(SIGN_OF_LIFE)

    def _details(self) -> dict[str, Any]:
        return {
            "slots": self.slots.total,
            "running": len(self.registry),
            "mode": self.mode.known,
            "kinds": self.handlers.kinds(),
            "draining": self._draining.begun,
        }

    async def _say_goodbye(self) -> None:
        with suppress(psycopg.Error, TimeoutError):  # its record is swept a day later
            async with asyncio.timeout(CLEANUP):
                await self.connections.run(lambda c: processes.forget(c, self.process))


def _engine(url: str, settings: WorkerSettings) -> AsyncEngine:
    # A handler waits for a connection as long as its own timeout lets it.
    return create_engine(
        url,
        pool_size=settings.database_pool_size,
        pool_timeout=86_400.0,
        application_name="outboxkit-worker-sessions",
    )
