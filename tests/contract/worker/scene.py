"""A worker on real Postgres, jobs for it, and the document that its answers are held against."""

# ruff: noqa: ARG001 (handlers are given a payload and a job, whether they use them or not)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from litestar import Litestar
from psycopg.rows import dict_row

from contract.worker import raw
from databases import Database, Server
from outboxkit import Fail, Handlers, Job, Retry
from outboxkit.application import Application
from outboxkit.settings import Secret
from outboxkit_cli.http_protocol import HttpProtocol
from outboxkit_contracts.messages import encode_trigger
from outboxkit_contracts.validation import Contract
from outboxkit_worker.app import create_app
from outboxkit_worker.settings import WorkerSettings
from workers import Gate, Jobs, Worker, settings_for

CONTRACT = Contract()
REFUSALS = {"malformed-http", "request-timeout", "headers-too-large"}


def handlers_at(gate: Gate) -> Handlers:
    """NOOP, WAIT (at the gate), RETRY and FAIL."""
    made = Handlers()

    @made.register("NOOP")
    async def noop(payload: dict[str, Any], job: Job) -> None:
        pass

    @made.register("WAIT", max_attempts=100)
    async def wait(payload: dict[str, Any], job: Job) -> None:
        await gate.passed()

    @made.register("RETRY", max_attempts=5)
    async def retry(payload: dict[str, Any], job: Job) -> None:
        raise Retry(after=3600)

    @made.register("FAIL")
    async def fail(payload: dict[str, Any], job: Job) -> None:
        raise Fail("the order does not exist")

    return made


class Scene:
    """A worker with the secret `raw.SECRET`, on a database of its own."""

    def __init__(self, database: Database, connection: psycopg.Connection[dict[str, Any]], gate: Gate) -> None:
        self.url = database.url
        self.jobs = Jobs(connection)
        self.gate = gate
        self._workers: list[Worker] = []

    def start(self, protocol: type[HttpProtocol] = HttpProtocol, **changes: Any) -> Worker:
        """Another worker on the same database."""
        settings, application = self._parts(**changes)
        self._workers.append(Worker(settings, application, protocol=protocol))
        return self._workers[-1]

    def application(self) -> Litestar:
        """A worker's application without a server."""
        settings, application = self._parts()
        return create_app(settings=settings, application=application)

    def _parts(self, **changes: Any) -> tuple[WorkerSettings, Application]:
        settings = settings_for(self.url, **{"secret": Secret(raw.SECRET), "concurrency": 50, **changes})
        return settings, Application(name="contract", handlers=handlers_at(self.gate))

    def stop(self) -> None:
        """End every worker."""
        self.gate.open()
        for worker in self._workers:
            worker.stop()

    def trigger(self, kind: str = "NOOP", *lines: bytes, **options: Any) -> bytes:
        """A good trigger for a new job."""
        return raw.request("POST", "/process-job", *lines, body=encode_trigger(self.jobs.enqueue(kind)), **options)

    def runs_a_job(self, worker: Worker) -> None:
        """The worker is all right: it runs a job to its end."""
        job: UUID = self.jobs.enqueue("NOOP")
        response = worker.trigger(job, x_worker_trigger=raw.SECRET, prefer="wait=20")
        assert (response.status_code, response.json()["state"]) == (200, "succeeded")


@contextmanager
def scene_on(server: Server, template: Database) -> Iterator[Scene]:
    """A scene on a fresh database."""
    with (
        server.temporary(template=template.name) as database,
        psycopg.connect(database.url, autocommit=True, row_factory=dict_row) as connection,
    ):
        made = Scene(database, connection, Gate())
        try:
            yield made
        finally:
            made.stop()


def conforms(answer: raw.Answer, method: str = "POST", path: str = "/process-job") -> None:
    """Hold an answer against the document, which has what is refused as no HTTP request at POST /process-job."""
    if method == "OPTIONS" and answer.status == 204:
        assert "allow" in dict(answer.headers)
        return
    if answer.slug in REFUSALS:
        method, path = "POST", "/process-job"
    flaws = CONTRACT.flaws_of_answer(method, path, answer.status, answer.headers, answer.body)
    assert not flaws, (answer, flaws)
