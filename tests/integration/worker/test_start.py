"""The worker starts whatever is missing, and says what."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from databases import Database
from outboxkit import Handlers, Job
from outboxkit.modes import Mode
from outboxkit.settings import read_settings
from outboxkit_cli.embedded import EmbeddedPostgres
from outboxkit_worker.settings import WorkerSettings
from waiting import until


@pytest.fixture
def handlers() -> Handlers:
    """NOOP alone."""
    made = Handlers()

    @made.register("NOOP")
    async def noop(payload: dict[str, Any], job: Job) -> None:
        pass

    return made


def test_health_says_that_it_is_alive(start_bare: Any) -> None:
    """At / and /health, with or without a database."""
    client = start_bare(None).client
    for path in ("/", "/health"):
        response = client.get(path)
        document = response.json()
        assert (response.status_code, document["status"], document["service"]) == (200, "ok", "worker")
        assert document["uptime"] >= 0
        assert document["timestamp"]


def test_a_worker_with_everything_is_ready(start_worker: Any, handlers: Handlers) -> None:
    """And says in which mode."""
    response = start_worker(handlers, mode="db").client.get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "service": "worker",
        "database": "up",
        "migrations": "current",
        "mode": "db",
        "modeConfigured": True,
        "authentication": "none",
        "problems": [],
    }


def test_a_mode_that_there_is_not_is_red_and_work_flows(database: Database, start_worker: Any, jobs: Any) -> None:
    """JOB_TRIGGER_MODE misspelt: the message names it with an example, the mode is db, and the poller runs what is due."""
    found = read_settings(WorkerSettings, {"DATABASE_URL": database.url, "JOB_TRIGGER_MODE": "htpp"})
    assert found.mode is Mode.DB
    done = Handlers()

    @done.register("NOOP")
    async def noop(payload: dict[str, Any], job: Job) -> None:
        pass

    worker = start_worker(done, mode="db", poll_interval=0.05, malformed=found.malformed)
    job = jobs.enqueue("NOOP")
    jobs.await_state(job, "succeeded")
    response = worker.client.get("/health/ready")
    assert response.status_code == 503
    [problem] = response.json()["problems"]
    assert problem.startswith("JOB_TRIGGER_MODE: 'htpp' is none of db, http, cloud-tasks, none")
    assert "For example http" in problem


def test_a_mode_that_lacks_its_variables_is_told(start_worker: Any, handlers: Handlers, jobs: Any) -> None:
    """By the relay, which alone can judge; the worker is ready all the same."""
    jobs.connection.execute(
        "update outboxkit.trigger_settings set effective_mode = 'db', published_at = clock_timestamp(),"
        """ problems = '["WORKER_TRIGGER_URL is not set"]'"""
    )
    document = start_worker(handlers, mode="http").ready()
    assert (document["status"], document["mode"], document["modeConfigured"]) == ("ready", "db", False)


def test_without_database_url(start_bare: Any, handlers: Handlers, caplog: pytest.LogCaptureFixture) -> None:
    """It starts, warns, is not ready, and answers a malformed trigger 400, a well-formed one 503 that says what to set."""
    with caplog.at_level(logging.WARNING):
        worker = start_bare(None, handlers)
    assert "DATABASE_URL is not set" in caplog.text
    assert "WORKER_TRIGGER_SECRET is not set" in caplog.text
    ready = worker.client.get("/health/ready")
    assert (ready.status_code, ready.json()["database"]) == (503, "down")
    assert "DATABASE_URL" in ready.json()["problems"][0]
    assert worker.trigger("no-uuid").status_code == 400
    response = worker.trigger(uuid4())
    assert (response.status_code, response.json()["type"]) == (503, "urn:outboxkit:problem:no-database")
    assert "DATABASE_URL" in response.json()["detail"]
    assert int(response.headers["retry-after"]) > 0


def test_a_database_that_is_not_migrated(start_bare: Any, empty_database: Database, handlers: Handlers) -> None:
    """Is up, and behind: not ready, and the problem names the command."""
    worker = start_bare(empty_database.url, handlers)
    ready = worker.client.get("/health/ready")
    assert (ready.status_code, ready.json()["database"], ready.json()["migrations"]) == (503, "up", "behind")
    assert "outboxkit migrate" in ready.json()["problems"][0]
    assert worker.trigger(uuid4()).json()["type"] == "urn:outboxkit:problem:no-database"


def test_a_database_that_comes_later(start_bare: Any, handlers: Handlers, private_postgres: EmbeddedPostgres) -> None:
    """The worker starts while it is away, answers 503 with Retry-After, and heals by itself when it is there."""
    with psycopg.connect(private_postgres.url, autocommit=True) as connection:
        row = connection.execute("select outboxkit.enqueue_job('NOOP')").fetchone()
    assert row is not None
    private_postgres.stop()
    worker = start_bare(private_postgres.url, handlers)
    response = worker.trigger(row[0])
    assert (response.status_code, response.json()["type"]) == (503, "urn:outboxkit:problem:no-database")
    assert response.headers["retry-after"]
    assert worker.ready()["database"] == "down"
    private_postgres.start()
    until(lambda: worker.trigger(row[0]).status_code != 503, what="the worker to find its database")
    until(lambda: worker.ready()["status"] == "ready", what="the worker to be ready")
    response = worker.trigger(row[0], prefer="wait=20")
    assert (response.status_code, response.json()["state"]) == (200, "succeeded")


def test_a_password_never_shows(start_bare: Any, handlers: Handlers, caplog: pytest.LogCaptureFixture) -> None:
    """Not in readiness, not in an answer, not in the log."""
    with caplog.at_level(logging.DEBUG):
        worker = start_bare("postgresql://user:geheim@127.0.0.1:1/nowhere", handlers)
        said = worker.client.get("/health/ready").text + worker.trigger(uuid4()).text
    assert "cannot be reached" in said
    assert "geheim" not in said + caplog.text
