"""Relays that a test can watch, freeze and kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import msgspec
from psycopg import sql
from sqlalchemy.engine import make_url

from contract.relay.opinion import Opinion
from contract.relay.scene import Scene
from outboxkit import tasks
from outboxkit.processes import Process
from outboxkit.settings import Secret
from outboxkit_relay import relay as relay_module
from outboxkit_relay.assembly import Parts
from outboxkit_relay.breaker import State
from outboxkit_relay.drain import Drain
from outboxkit_relay.relay import Relay
from outboxkit_relay.settings import RelaySettings
from outboxkit_relay.triggers import Trigger
from sink import Reply, Request

LOGIN = """
create role {role} login password 'relay';
grant usage on schema outboxkit to {role};
grant all on all tables in schema outboxkit to {role};
grant execute on all functions in schema outboxkit to {role}
"""

PARTS: dict[UUID, Parts] = {}
"""What each relay is made of, while it runs."""


@contextmanager
def watching() -> Iterator[None]:
    """Relays that start within show their parts."""
    real = relay_module.assembled

    @asynccontextmanager
    async def assembled(settings: RelaySettings, *, process: Process) -> AsyncIterator[Parts]:
        async with real(settings, process=process) as parts:
            PARTS[process.id] = parts
            try:
                yield parts
            finally:
                del PARTS[process.id]

    relay_module.assembled = assembled
    try:
        yield
    finally:
        relay_module.assembled = real


@dataclass(eq=False)
class Delivery:
    """A request that has arrived, and waits for its answer."""

    request: Request
    relay: Watched
    trigger: Trigger
    reply: asyncio.Future[Reply]


class Watched:
    """One relay, a task of this process, with a login of its own."""

    def __init__(self, settings: RelaySettings, *, name: str, login: str) -> None:
        """`name` is its secret: requests tell by it whose they are."""
        self.name = name
        self.login = login
        self.relay = Relay(settings=settings)
        self.opinion = Opinion()
        self.waiting: list[Delivery] = []
        self.answered = 0
        # Since its breaker opened: what it may send, one row for each answer, and what has come.
        self.probes_allowed = self.probes = 0
        self._bound: set[Trigger] = set()
        self._stop = asyncio.Event()
        self.task = asyncio.create_task(self.relay.run(self._stop))

    @property
    def parts(self) -> Parts | None:
        """What it is made of; None before it has begun, and after its end."""
        return PARTS.get(self.relay.process.id)

    @property
    def drain(self) -> Drain:
        """The one way it has."""
        assert self.parts is not None, f"{self.name} does not run: {self.task}"
        return self.parts.drains[0]

    @property
    def held(self) -> list[Trigger]:
        """The rows that it has claimed and is not done with."""
        slots = self.drain._slots
        return [*slots._sending, *slots._line]

    @property
    def started(self) -> bool:
        """Whether it has found out in which mode it is to work."""
        return self.parts is not None and not self.drain._paused

    @property
    def judged(self) -> int:
        """How many answers it has judged."""
        assert self.parts is not None
        return sum(self.parts.stats.totals.values())

    def arrived(self, request: Request) -> Delivery:
        """A request of this relay has come: which of its rows it is about."""
        mine = [trigger for trigger in self.drain._slots._sending if trigger.job_id == request.job_id]
        trigger = min((t for t in mine if t not in self._bound), key=lambda trigger: trigger.claims)
        self._bound.add(trigger)
        delivery = Delivery(request, self, trigger, asyncio.get_running_loop().create_future())
        self.waiting.append(delivery)
        self.probes += 1
        return delivery

    def hang_up(self) -> None:
        """Its requests get no answer any more."""
        for delivery in self.waiting:
            delivery.reply.cancel()
        self.waiting.clear()

    @property
    def idle(self) -> bool:
        """Whether no statement of its pool is under way, what is sent has arrived, and every answer has been judged."""
        if not self.started or self.parts is None:
            return False
        pool = self.parts.pool.get_stats()
        no_statement = pool.get("pool_available", 0) == pool.get("pool_size", 0)
        return no_statement and self.drain.in_flight == len(self.waiting) and self.judged == self.answered

    def content(self, due: int) -> bool:
        """Whether it has no reason to send more, with so many rows due."""
        drain = self.drain
        in_line = len(self.held) - drain.in_flight
        if drain.in_flight >= drain.endpoint.window.size:
            return True
        probing = drain.endpoint.breaker.state is State.PROBING and drain.in_flight > 0
        return in_line == 0 and (due == 0 or probing)

    async def stop(self) -> None:
        """End it in order."""
        self._stop.set()
        await self.task


@dataclass
class Relays:
    """The relays that are alive, and what is left of those that were killed."""

    scene: Scene
    settings: RelaySettings
    """What all have in common."""
    alive: list[Watched] = field(default_factory=list)
    _killed: list[asyncio.Task[None]] = field(default_factory=list)
    _logins: list[str] = field(default_factory=list)
    _free: list[str] = field(default_factory=list)

    async def start(self) -> Watched:
        """Start one more."""
        login = self._free.pop() if self._free else await self._new_login()
        url = make_url(self.scene.database.url).set(username=login, password="relay")
        name = f"secret of {uuid4().hex}"
        self.scene.provider.secrets.add(name)
        settings = msgspec.structs.replace(
            self.settings,
            database_url=Secret(url.render_as_string(hide_password=False)),
            secret=Secret(name),
        )
        watched = Watched(settings, name=name, login=login)
        self.alive.append(watched)
        return watched

    def of(self, request: Request) -> Watched | None:
        """Whose request this is; None when that one is dead."""
        return next((each for each in self.alive if each.name == request.headers["x-worker-trigger"]), None)

    async def stop(self, watched: Watched) -> None:
        """End one in order, without a grace for what is under way."""
        await watched.stop()
        self.alive.remove(watched)
        self._free.append(watched.login)

    async def kill(self, watched: Watched) -> None:
        """End one without a goodbye: from now on nothing it does reaches the database."""
        role = sql.Identifier(watched.login)
        await self.scene.db.connection.execute(sql.SQL("alter role {} nologin").format(role))
        await self.scene.db.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", watched.login
        )
        self.alive.remove(watched)
        watched.task.cancel()
        self._killed.append(watched.task)

    async def kill_all(self) -> None:
        """End all that are alive; something is wrong with them."""
        for watched in [*self.alive]:
            await self.kill(watched)
            watched.hang_up()

    async def close(self) -> None:
        """Wait for the end of those that were killed, and take their logins away."""
        for task in self._killed:
            await tasks.end(task)
        for login in self._logins:
            role = sql.Identifier(login)
            await self.scene.db.connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(role))

    async def _new_login(self) -> str:
        login = f"relay_{uuid4().hex}"
        await self.scene.db.connection.execute(sql.SQL(LOGIN).format(role=sql.Identifier(login)))
        self._logins.append(login)
        return login
