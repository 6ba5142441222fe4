"""Fixtures of the tests with a local Cloud Tasks."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from cloud_tasks import google_options
from databases import Database
from integration.relay.conftest import db, sink  # noqa: F401  (fixtures: the relay's own serve here, too)
from outboxkit import Handlers, Job, Retry
from outboxkit.application import Application
from outboxkit_cli.cloud_tasks.server import CloudTasksServer
from workers import Gate, Worker, settings_for

StartWorker = Callable[..., Worker]


@pytest.fixture
async def google() -> AsyncIterator[CloudTasksServer]:
    """A Cloud Tasks of the test's own, with the queue `jobs`."""
    async with CloudTasksServer(google_options()) as server:
        yield server


@pytest.fixture
def gate() -> Iterator[Gate]:
    """What a handler of the kind K waits for; shut until the test opens it, open at the end."""
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def start_worker(database: Database, gate: Gate) -> Iterator[StartWorker]:
    """Start a worker that never polls and runs jobs of the kind K: `start_worker(**settings)`."""
    handlers = Handlers()
    workers: list[Worker] = []

    @handlers.register("K", timeout=60)
    async def run(payload: dict[str, Any], job: Job) -> None:
        """Wait for the gate, and write that the job has run, in the transaction that completes it.

        With `retry` in its payload the first attempt asks for a second.
        """
        await gate.passed()
        if "retry" in payload and job.attempt == 1:
            raise Retry(after=payload["retry"])
        await job.session.execute(
            text("insert into effects values (:id, :attempt)"), {"id": job.id, "attempt": job.attempt}
        )

    def start(**changes: Any) -> Worker:
        workers.append(Worker(settings_for(database.url, **changes), Application(name="test", handlers=handlers)))
        return workers[-1]

    with database.sync() as connection:
        connection.execute("create table effects (job uuid not null, attempt integer not null)")
    yield start
    gate.open()
    for worker in workers:
        worker.stop()
