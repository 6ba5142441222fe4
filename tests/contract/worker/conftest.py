"""Fixtures of the tests that hold the worker against the document."""

import logging
from collections.abc import Iterator

import pytest
import requests

from contract.worker.jobs import Stock
from contract.worker.reached import Reached
from contract.worker.scene import Scene, scene_on
from databases import Database, Server
from workers import Gate, Worker


@pytest.fixture(scope="module")
def scene(postgres_server: Server, migrated_template: Database) -> Iterator[Scene]:
    """A database, and whatever workers the module's tests start on it."""
    with scene_on(postgres_server, migrated_template) as made:
        yield made


@pytest.fixture(scope="module")
def worker(scene: Scene) -> Worker:
    """A worker that is served as `outboxkit worker` serves it."""
    return scene.start()


@pytest.fixture
def gate(scene: Scene) -> Iterator[Gate]:
    """The gate at which jobs of the kind WAIT stand in this test; open at the end."""
    scene.gate.close()
    yield scene.gate
    scene.gate.open()


@pytest.fixture(autouse=True)
def nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client does is its own fault, and no error of the worker's; jobs of the kind FAIL are none either."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not [error for error in errors if not error.getMessage().startswith("FAIL is dead")]


@pytest.fixture(scope="module")
def stock(scene: Scene, worker: Worker) -> Stock:
    """Jobs in every state; the running one stands at the gate until the module's tests are done."""
    scene.gate.close()
    return Stock(scene, worker)


@pytest.fixture(scope="module")
def live(worker: Worker, stock: Stock) -> Iterator[Reached]:
    """A worker that is reached over TCP."""
    with requests.Session() as session:
        yield Reached("live", {"base_url": worker.url, "session": session}, stock)
