"""The proxy in front of a Postgres."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from chaos.proxy import Delay, Fault, Proxy
from databases import Database
from unit.chaos.peers import (
    SEED,
    WITHIN,
)


@pytest.fixture
async def postgres(database: Database) -> AsyncIterator[Proxy]:
    """A proxy in front of the test's Postgres, which may listen on a Unix socket or on a port."""
    settings = conninfo_to_dict(database.url)
    host, port = str(settings.get("host") or "127.0.0.1"), int(settings.get("port") or 5432)
    upstream = Path(host, f".s.PGSQL.{port}") if host.startswith("/") else (host, port)
    async with Proxy(upstream, name="postgres", seed=SEED) as made:
        yield made


async def connect(proxy: Proxy, database: Database) -> psycopg.AsyncConnection[TupleRow]:
    """Connect to the database through the proxy."""
    url = make_conninfo(database.url, host="127.0.0.1", port=proxy.port)
    async with asyncio.timeout(WITHIN):
        return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def select(connection: psycopg.AsyncConnection[TupleRow]) -> None:
    """Ask for an answer of several chunks."""
    async with asyncio.timeout(WITHIN):
        cursor = await connection.execute("select repeat('x', 300000)")
        assert await cursor.fetchone() == ("x" * 300_000,)


async def test_postgres_works_through_pass_and_through_a_delay(postgres: Proxy, database: Database) -> None:
    """A real driver on a real server notices nothing but the time."""
    async with await connect(postgres, database) as connection:
        await select(connection)
    postgres.set(Delay(0.01))
    async with await connect(postgres, database) as connection:
        await select(connection)
    assert postgres.faulted > 4


# Not CORRUPT: a driver that reads a wrong length may wait for ever for what it thinks is missing.
@pytest.mark.parametrize("fault", [Fault.RESET, Fault.REFUSE, Fault.HALF_CLOSE])
async def test_a_fault_breaks_a_connection_to_postgres(fault: Fault, postgres: Proxy, database: Database) -> None:
    """To psycopg it is an OperationalError; the connection is lost, and a new one works after PASS."""
    async with await connect(postgres, database) as connection:
        await select(connection)
        postgres.set(fault)
        with pytest.raises(psycopg.OperationalError):
            await select(connection)
        assert connection.broken
    postgres.set(Fault.PASS)
    async with await connect(postgres, database) as connection:
        await select(connection)


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.REFUSE, Fault.HALF_CLOSE, Fault.CORRUPT])
async def test_a_fault_keeps_psycopg_from_connecting(fault: Fault, postgres: Proxy, database: Database) -> None:
    """To psycopg it is an OperationalError, and a new connection works after PASS."""
    postgres.set(fault)
    with pytest.raises(psycopg.OperationalError):
        await connect(postgres, database)
    assert postgres.faulted > 0
    postgres.set(Fault.PASS)
    async with await connect(postgres, database) as connection:
        await select(connection)
