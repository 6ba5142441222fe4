"""What many examples share: one event loop, one database, one provider."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar
from uuid import UUID

from contract.relay.provider import Provider
from databases import Database, Server
from outboxkit_relay.settings import RelaySettings
from relaying import Tables, settings, tables

T = TypeVar("T")

CLEAR = """
with jobs as (delete from outboxkit.jobs), outbox as (delete from outboxkit.outbox),
     letters as (delete from outboxkit.dead_letters), processes as (delete from outboxkit.processes)
delete from outboxkit.trigger_stats
"""


class Scene:
    """The tables and the provider's address. Tests that use it are not coroutines: hypothesis runs them many times."""

    def __init__(self, database: Database, runner: asyncio.Runner) -> None:
        self.database = database
        self._runner = runner
        self._stack = AsyncExitStack()
        self.provider = Provider()
        self.db: Tables

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until the work is done; connections stay open from one run to the next."""
        return self._runner.run(work)

    async def open(self) -> None:
        """Connect and listen."""
        self.db = await self._stack.enter_async_context(tables(self.database))
        await self._stack.enter_async_context(self.provider)

    async def close(self) -> None:
        """Close what `open` opened."""
        await self._stack.aclose()

    def settings(self, **environ: str) -> RelaySettings:
        """Those of a relay that sends to the provider."""
        return settings(self.database, self.provider.url, **environ)

    async def clear(self) -> None:
        """Empty the tables and the provider's memory. Ids go on, as they do in life."""
        await self.db.rows(CLEAR)
        self.provider.forget()

    async def enqueue(self, kind: str = "K", *, trace: str | None = None) -> UUID:
        """Enqueue one job; its trace is to come with its trigger."""
        job = await self.db.enqueue(kind, trace=trace)
        if trace is not None:
            self.provider.traces[job] = trace
        return job

    async def enqueue_many(self, count: int, *, attempts: int = 0) -> list[UUID]:
        """Enqueue many jobs whose triggers have failed so often before."""
        jobs = await self.db.enqueue_many(count)
        if attempts:
            await self.db.rows("update outboxkit.outbox set attempts = %s", attempts)
        return jobs

    def honest(self) -> None:
        """Fail if a request since the last time was not as the document has it."""
        flaws, self.provider.flaws = self.provider.flaws, []
        assert flaws == []


@contextmanager
def scene_on(server: Server, template: Database) -> Iterator[Scene]:
    """A scene on a database of its own. Fails at the end if a request was not as the document has it."""
    with server.temporary(template=template.name) as database, asyncio.Runner() as runner:
        scene = Scene(database, runner)
        try:
            scene.run(scene.open())
            yield scene
            scene.honest()
        finally:
            scene.run(scene.close())
