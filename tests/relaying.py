"""Tools of the relay's tests: settings, a running relay, and what stands in its tables."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg

from databases import Database
from outboxkit.settings import read_settings
from outboxkit_relay.relay import Relay
from outboxkit_relay.settings import RelaySettings

LONGEST = 20.0

# Quick enough for a test; each test overrides what it is about.
QUICK = {
    "JOB_TRIGGER_MODE": "http",
    "WORKER_TRIGGER_SECRET": "test-secret",
    "RELAY_POLL_SECONDS": "0.1",
    "RELAY_DELIVERY_TIMEOUT_SECONDS": "5",
    "RELAY_BACKOFF_BASE": "0.01",
    "RELAY_BACKOFF_MAX": "0.05",
    "RELAY_PROBE_BASE_SECONDS": "0.005",
    "RELAY_PROBE_MAX_SECONDS": "0.02",
    "SWEEP_INTERVAL_SECONDS": "60",
    "SHUTDOWN_GRACE_SECONDS": "5",
}


def settings(database: Database | str, url: str | None = None, **environ: str) -> RelaySettings:
    """The settings of a quick relay."""
    where = database if isinstance(database, str) else database.url
    values = {**QUICK, "DATABASE_URL": where, **({} if url is None else {"WORKER_TRIGGER_URL": url}), **environ}
    return read_settings(RelaySettings, values)


async def eventually(condition: Callable[[], Any], *, what: str, within: float = LONGEST) -> Any:
    """Return the condition's value as soon as it is true, awaiting it when it has to be; fail when it takes too long."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {within:g} s for {what}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def running(*which: RelaySettings) -> AsyncIterator[list[Relay]]:
    """Run a relay for each settings, and stop them in order at the end."""
    stop = asyncio.Event()
    relays = [Relay(settings=each) for each in which]
    tasks = [asyncio.create_task(relay.run(stop)) for relay in relays]
    try:
        yield relays
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), LONGEST)


class Tables:
    """One connection to look at the kit's tables and to change them."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """The connection is autocommit."""
        self.connection = connection

    async def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """What a statement returns."""
        cursor = await self.connection.execute(statement, parameters or None)  # type: ignore[call-overload] # tests write their own SQL
        return list(await cursor.fetchall()) if cursor.description else []

    async def value(self, statement: str, *parameters: Any) -> Any:
        """The one value a statement returns."""
        return (await self.rows(statement, *parameters))[0][0]

    async def enqueue(
        self, kind: str = "K", *, queue: str = "default", run_in: float = 0, trace: str | None = None
    ) -> UUID:
        """Enqueue one job through the SQL door; no wake-up is sent."""
        found: UUID = await self.value(
            "select outboxkit.enqueue_job(%s, queue => %s, traceparent => %s,"
            " run_at => clock_timestamp() + %s * interval '1 second')",
            kind, queue, trace, run_in,
        )  # fmt: skip
        return found

    async def enqueue_many(self, count: int, *, queue: str = "default") -> list[UUID]:
        """Enqueue many jobs in one statement."""
        rows = await self.rows(
            "select * from outboxkit.enqueue_jobs((select jsonb_agg(jsonb_build_object('kind', 'K', 'queue', %s::text))"
            " from generate_series(1, %s)))",
            queue, count,
        )  # fmt: skip
        return [row[0] for row in rows]

    async def wake(self) -> None:
        """Send a wake-up."""
        await self.rows("select pg_notify('outboxkit_wake', '')")

    async def outbox(self) -> int:
        """How many triggers there are."""
        return int(await self.value("select count(*) from outboxkit.outbox"))

    async def empty(self) -> bool:
        """Whether there is no trigger."""
        return await self.outbox() == 0

    async def letters(self) -> list[tuple[UUID, str]]:
        """Every dead letter: its job and its reason."""
        return await self.rows("select job_id, reason from outboxkit.dead_letters order by id")

    async def state(self, job: UUID) -> str:
        """A job's state."""
        return str(await self.value("select state from outboxkit.jobs where id = %s", job))


@asynccontextmanager
async def tables(database: Database | str) -> AsyncIterator[Tables]:
    """Open a connection to look at the tables."""
    url = database if isinstance(database, str) else database.url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield Tables(connection)
