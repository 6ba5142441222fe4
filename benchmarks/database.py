"""The Postgres that is measured: an embedded one, durable, with a migrated database for each of a scene's contenders."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from benchmarks import queries
from benchmarks.application import NOTHING
from outboxkit.migrations import upgrade
from outboxkit_cli.embedded import EmbeddedPostgres

# Postgres's own defaults, said aloud: what is measured survives the loss of power.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
SETTINGS = {
    **DURABLE,
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
    # No checkpoint in the middle of a measurement; there is one before each.
    "checkpoint_timeout": "30min",
    "max_wal_size": "8GB",
}

# Jobs that have ended before anything is measured.
HISTORY = 10_000

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Server:
    """An embedded Postgres that ends with this context."""

    def __init__(self) -> None:
        self._postgres = EmbeddedPostgres(settings=SETTINGS)

    def __enter__(self) -> Self:
        """Start it, and migrate the database that the others are copies of."""
        self._postgres.__enter__()
        try:
            with psycopg.connect(self._postgres.url, autocommit=True) as connection:
                connection.execute("create extension pg_stat_statements")
                connection.execute("create database template_kit")
            upgrade(self.url_of("template_kit"))
            with psycopg.connect(self.url_of("template_kit"), autocommit=True) as connection:
                connection.execute("create schema harness")
                connection.execute("create extension pgstattuple schema harness")
        except BaseException:
            self._postgres.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it and remove its files."""
        self._postgres.close()

    @property
    def url(self) -> str:
        """The administrative database's URL."""
        return self._postgres.url

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._postgres.pid is not None
        return self._postgres.pid

    def url_of(self, database: str) -> str:
        """Another database's URL."""
        return urlunsplit(urlsplit(self._postgres.url)._replace(path=f"/{database}"))

    def describe(self) -> tuple[str, Mapping[str, str]]:
        """The server's version, and the settings that make a commit durable, as it says itself."""
        with psycopg.connect(self.url) as connection:
            shown = {name: connection.execute(f"show {name}").fetchone() for name in ("server_version", *DURABLE)}
        found = {name: str(row[0]) for name, row in shown.items() if row is not None}
        return found.pop("server_version"), found

    @asynccontextmanager
    async def database(self) -> AsyncIterator["Database"]:
        """A fresh migrated database, dropped at the end."""
        name = sql.Identifier(f"bench_{uuid4().hex[:12]}")
        async with await connect(self.url) as admin:
            await admin.execute(sql.SQL("create database {} template template_kit").format(name))
            url = self.url_of(name.as_string().strip('"'))
            try:
                async with await connect(url) as connection:
                    yield Database(url, connection)
            finally:
                await admin.execute(sql.SQL("drop database {} with (force)").format(name))


class Database:
    """One contender's own database, and the harness's connection to it."""

    def __init__(self, url: str, connection: Connection) -> None:
        self.url = url
        self._connection = connection

    @property
    def name(self) -> str:
        """Its name."""
        return self._connection.info.dbname

    async def reset(self) -> None:
        """Leave some jobs that have ended and nothing else, with statistics that say so, and write everything out.

        That is the state a burst of work meets in production: Postgres plans for an outbox that it knows as empty. Each
        measurement starts in it.
        """
        await self._connection.execute(queries.load("empty"))
        await self._connection.execute(queries.load("history"), {"kind": NOTHING, "jobs": HISTORY})
        await self._connection.execute("vacuum (analyze) /* harness */ outboxkit.jobs, outboxkit.outbox")
        await self._connection.execute("checkpoint /* harness */")

    async def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        """What one of the harness's own queries returns."""
        return await (await self._connection.execute(queries.load(query))).fetchall()

    async def value(self, query: str) -> Any:
        """The first column of the first row."""
        return (await self.rows(query))[0][0]

    @asynccontextmanager
    async def connections(self, count: int) -> AsyncIterator[Sequence[Connection]]:
        """Autocommit connections for a floor."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(await connect(self.url)) for _ in range(count)]


async def connect(url: str) -> Connection:
    """An autocommit connection."""
    return await psycopg.AsyncConnection.connect(url, autocommit=True)
