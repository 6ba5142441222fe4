"""Fixtures of the tests that hold the relay against the document."""

from collections.abc import Iterator

import pytest

from contract.relay.scene import Scene, scene_on
from databases import Database, Server


@pytest.fixture(scope="module")
def scene(postgres_server: Server, migrated_template: Database) -> Iterator[Scene]:
    """A database and a provider for a module's tests."""
    with scene_on(postgres_server, migrated_template) as made:
        yield made


@pytest.fixture(autouse=True)
def every_request_conforms(request: pytest.FixtureRequest) -> Iterator[None]:
    """A request that is not as the document has it fails the test that it was sent in."""
    yield
    if "scene" in request.fixturenames:
        request.getfixturevalue("scene").honest()
