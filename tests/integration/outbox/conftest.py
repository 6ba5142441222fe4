from collections.abc import AsyncIterator, Iterator

import pytest

from databases import Database, Server
from integration.outbox.stage import Stage, staged


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Stage]:
    """A stage on a database of the test's own."""
    async with staged(database) as made:
        yield made


@pytest.fixture(scope="module")
def module_database(postgres_server: Server, migrated_template: Database) -> Iterator[Database]:
    """A migrated database for a module whose tests do not get in each other's way."""
    with postgres_server.temporary(template=migrated_template.name) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def scenario_database(postgres_server: Server, migrated_template: Database) -> Iterator[Database]:
    """A migrated database for the scenarios, each of which leaves it as it found it."""
    with postgres_server.temporary(template=migrated_template.name) as fresh:
        yield fresh
