"""What worker tests work with: a real worker in a thread, a gate for its handlers, and the jobs table."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import psycopg
import uvicorn

from outboxkit.application import Application
from outboxkit.modes import Mode
from outboxkit.settings import Secret
from outboxkit_cli.http_protocol import HttpProtocol
from outboxkit_cli.serve import configuration
from outboxkit_worker.app import create_app
from outboxkit_worker.settings import WorkerSettings
from waiting import until


class Worker:
    """A worker in a thread of this process, served as `outboxkit worker` serves it."""

    def __init__(
        self, settings: WorkerSettings, application: Application, *, protocol: type[HttpProtocol] = HttpProtocol
    ) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.app = create_app(settings=settings, application=application)
        self._server = uvicorn.Server(configuration(self.app, grace=1, protocol=protocol))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive(), what="the worker to start")
        assert self._server.started
        self.client = httpx.Client(base_url=self.url, timeout=20)

    def trigger(self, job: UUID | str, **headers: str) -> httpx.Response:
        """Post a trigger; header names may be written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/process-job", json={"jobId": str(job)}, headers=named)

    def ready(self) -> dict[str, Any]:
        """What /health/ready says."""
        document: dict[str, Any] = self.client.get("/health/ready").json()
        return document

    def stop(self) -> None:
        """End it as uvicorn ends it; again: nothing."""
        self.client.close()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the worker did not end"


def settings_for(url: str | None, **changes: Any) -> WorkerSettings:
    """Settings in a hurry: triggers only (mode none), retries at once, a grace of nothing."""
    values = {
        "database_url": None if url is None else Secret(url),
        "mode": "none",
        "backoff": 0.0,
        "grace": 0.0,
        "sweep_interval": 3600.0,
        **changes,
    }
    return WorkerSettings(**{**values, "mode": Mode(values["mode"])})


class Gate:
    """A handler waits here until the test opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.entered = threading.Semaphore(0)

    async def passed(self) -> None:
        """Wait for the gate, on the worker's event loop."""
        self.entered.release()
        while not self._open.is_set():  # noqa: ASYNC110 (the test that opens it is in another thread)
            await asyncio.sleep(0.005)

    def await_entry(self) -> None:
        """Wait until a handler stands at the gate."""
        assert self.entered.acquire(timeout=20)

    def open(self) -> None:
        """Let everybody pass."""
        self._open.set()

    def close(self) -> None:
        """Let nobody pass any more, and forget who has entered."""
        self._open.clear()
        self.entered = threading.Semaphore(0)


@dataclass
class Jobs:
    """The jobs table, for tests."""

    connection: psycopg.Connection[dict[str, Any]]

    def enqueue(self, kind: str, payload: Mapping[str, Any] | None = None, **arguments: Any) -> UUID:
        """Enqueue a job that triggers claim and pollers may claim; arguments as of outboxkit.enqueue_job.

        `due_in` in seconds stands for run_at.
        """
        due_in = arguments.pop("due_in", None)
        given = "".join(f", {name} => %({name})s" for name in arguments)
        if due_in is not None:
            given += ", run_at => clock_timestamp() + make_interval(secs => %(due_in)s)"
        values = {"kind": kind, "payload": psycopg.types.json.Jsonb(payload or {}), "due_in": due_in, **arguments}
        row = self.one(f"select outboxkit.enqueue_job(%(kind)s, %(payload)s{given}) as id", values)
        job: UUID = row["id"]
        return job

    def one(self, statement: str, values: Any = None) -> dict[str, Any]:
        """The only row of a query."""
        row = self.connection.execute(statement, values).fetchone()
        assert row is not None
        return row

    def row(self, job: UUID) -> dict[str, Any]:
        """A job's row."""
        return self.one("select * from outboxkit.jobs where id = %s", [job])

    def nobody_claims(self) -> bool:
        """Whether no statement of a worker is under way."""
        row = self.one(
            "select not exists (select from pg_stat_activity where application_name = 'outboxkit-worker'"
            " and state = 'active' and datname = current_database()) as idle",
            [],
        )
        return bool(row["idle"])

    def state(self, job: UUID) -> str:
        """A job's state."""
        return str(self.row(job)["state"])

    def await_state(self, job: UUID, *states: str) -> dict[str, Any]:
        """Wait until the job is in one of the states; returns its row then."""
        until(lambda: self.state(job) in states, what=f"the job to be {' or '.join(states)}")
        return self.row(job)

    def triggers(self, job: UUID) -> int:
        """How many outbox rows the job has."""
        return int(self.one("select count(*) as n from outboxkit.outbox where job_id = %s", [job])["n"])

    def letters(self, job: UUID) -> list[dict[str, Any]]:
        """The job's dead letters."""
        return self.connection.execute("select * from outboxkit.dead_letters where job_id = %s", [job]).fetchall()

    def take_over(self, job: UUID) -> None:
        """Do what a sweep and another worker do: the lease expires, and somebody else has the next attempt."""
        self.connection.execute(
            "update outboxkit.jobs set attempt = attempt + 1, leased_by = gen_random_uuid(), state = 'running',"
            " lease_until = clock_timestamp() + interval '1 hour' where id = %s",
            [job],
        )

    def requeue(self, job: UUID) -> None:
        """Do what a sweep does to an expired lease."""
        self.connection.execute(
            "update outboxkit.jobs set state = 'queued', lease_until = null, run_at = clock_timestamp() where id = %s",
            [job],
        )
