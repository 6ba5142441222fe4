"""A real worker for tests, with the test's handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from databases import Database
from outboxkit import Handlers
from outboxkit.application import Application
from workers import Gate, Jobs, Worker, settings_for

StartWorker = Callable[..., Worker]


@pytest.fixture
def start_bare() -> Iterator[StartWorker]:
    """Start a worker on any URL, or none: `start_bare(url, handlers, **settings)`; a `lifespan` may be among them."""
    workers: list[Worker] = []

    def start(url: str | None, handlers: Handlers | None = None, **changes: Any) -> Worker:
        parts = {"lifespan": changes.pop("lifespan")} if "lifespan" in changes else {}
        application = Application(name="tests", handlers=handlers or Handlers(), **parts)
        workers.append(Worker(settings_for(url, **changes), application))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def start_worker(database: Database, start_bare: StartWorker) -> StartWorker:
    """Start a worker on the test's database: `start_worker(handlers, **settings)`."""

    def start(handlers: Handlers | None = None, **changes: Any) -> Worker:
        return start_bare(database.url, handlers, **changes)

    return start


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the end."""
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def jobs(database: Database) -> Iterator[Jobs]:
    """The jobs of the test's database."""
    with psycopg.connect(database.url, autocommit=True, row_factory=dict_row) as connection:
        yield Jobs(connection)
