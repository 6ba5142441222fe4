"""Databases for tests: a template is migrated once, and every test gets a clone of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql


def url_of(server: str, database: str) -> str:
    """Return the server's URL with another database in it."""
    parts = urlsplit(server)
    return urlunsplit(parts._replace(path=f"/{quote(database)}"))


@dataclass(frozen=True)
class Database:
    """One test's own database: `url` is a libpq URL (`outboxkit.database.sqlalchemy_url` takes it too)."""

    url: str
    name: str

    async def connect(self, **options: Any) -> psycopg.AsyncConnection[Any]:
        """Open an autocommit connection: `async with await database.connect() as connection`."""
        return await psycopg.AsyncConnection.connect(self.url, **{"autocommit": True, **options})

    def sync(self, **options: Any) -> psycopg.Connection[Any]:
        """Open a blocking autocommit connection: `with database.sync() as connection`."""
        return psycopg.connect(self.url, **{"autocommit": True, **options})


class Server:
    """A Postgres server that tests may make databases on; the user of `url` may create them."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url) as connection:
            self.version: int = connection.info.server_version // 10_000

    def create(self, *, template: str | None = None) -> Database:
        """Make an empty database, or a clone of `template`, to which nobody may be connected."""
        name = f"test_{uuid4().hex}"
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
            # Three times as fast as copying through the WAL when fsync is off; PostgreSQL 14 knows no other.
            statement += sql.SQL(" strategy file_copy" if self.version >= 15 else "")
        self._execute(statement)
        return Database(url_of(self.url, name), name)

    def drop(self, database: Database) -> None:
        """Drop a database, sending whoever is connected away."""
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database.name)))

    @contextmanager
    def temporary(self, *, template: str | None = None) -> Iterator[Database]:
        """Make a database that is dropped at the end."""
        database = self.create(template=template)
        try:
            yield database
        finally:
            self.drop(database)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


def branches() -> list[str]:
    """The migration branches that exist: the kit's, and the sample application's."""
    from outboxkit.migrations import scripts

    return [name for name in ("outboxkit", "reports") if any((scripts() / name).rglob("*.py"))]
