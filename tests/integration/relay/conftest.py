"""Fixtures of the relay's integration tests."""

from collections.abc import AsyncIterator

import pytest

from databases import Database
from relaying import Tables, tables
from sink import Sink


@pytest.fixture
async def db(database: Database) -> AsyncIterator[Tables]:
    """The test's own tables."""
    async with tables(database) as opened:
        yield opened


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    """A worker's address that accepts everything until told otherwise."""
    async with Sink() as listening:
        yield listening
