"""What faults may break, and what they share."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Self

import psycopg

from chaos.console import Console
from chaos.modes import Modes
from chaos.processes import Fleet
from chaos.proxy import AnyFault, Fault
from chaos.volume import Volume
from outboxkit_cli.embedded import EmbeddedPostgres
from waiting import until_async

# Seconds after which it is given up that somebody feels a fault.
FELT_WITHIN = 20.0


class Scene:
    """What faults may break."""

    def __init__(self, *, fleet: Fleet, postgres: EmbeddedPostgres, modes: Modes, volume: Volume | None) -> None:
        self.fleet = fleet
        self.modes = modes
        self.postgres = postgres
        self.volume = volume

    @property
    def console(self) -> Console:
        """Where Cloud Tasks is made to fail."""
        return self.fleet.console

    @property
    def worker_links(self) -> list[str]:
        """The names of the links from relays, and from Cloud Tasks, to workers."""
        return [name for name in self.fleet.links if "to worker" in name]

    async def connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        """A superuser's connection past every proxy; Postgres keeps some places for these."""
        return await psycopg.AsyncConnection.connect(self.postgres.url, autocommit=True)

    async def holds(self, condition: str) -> bool:
        """Whether the database says that this comes to hold."""
        async with await self.connect() as connection:

            async def ask() -> bool:
                return await (await connection.execute(f"select {condition}".encode())).fetchone() == (True,)

            return await eventually(ask)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> bool:
    """Whether the condition comes to hold within a while."""
    deadline = monotonic() + FELT_WITHIN
    while monotonic() < deadline:
        if await condition():
            return True
        await asyncio.sleep(0.05)
    return False


async def comes(condition: Callable[[], object], *, what: str, within: float = FELT_WITHIN) -> bool:
    """The same for what need not be waited for."""
    with suppress(AssertionError):
        await until_async(condition, what=what, within=within)
    return bool(condition())


class Broken:
    """One link with a fault, for as long as a `with` block lasts."""

    def __init__(self, scene: Scene, name: str, fault: AnyFault) -> None:
        self._link = scene.fleet.links[name]
        self._fault = fault

    @property
    def times(self) -> int:
        """How often somebody has felt it."""
        return self._link.faulted

    def __enter__(self) -> Self:
        self._link.set(self._fault)
        return self

    def __exit__(self, *_: object) -> None:
        self._link.set(Fault.PASS)
