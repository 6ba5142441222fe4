"""SIGTERM: no new work at once, running jobs finish within the grace, the others are given back."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from databases import Database
from waiting import until

SERVING = Path(__file__).with_name("serving.py")


class Process:
    """A worker in a process of its own."""

    def __init__(self, database: Database, tmp_path: Path, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        self._log = tmp_path / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, SERVING, str(port)],
                env={"DATABASE_URL": database.url, "JOB_TRIGGER_MODE": "none", "SWEEP_INTERVAL_SECONDS": "3600"}
                | environment,
                stdout=log,
                stderr=log,
            )
        until(self._answers, what="the worker to answer")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def trigger(self, job: Any, **headers: str) -> httpx.Response:
        """Post a trigger."""
        return self.client.post("/process-job", json={"jobId": str(job)}, headers=headers)

    def log(self) -> str:
        """Everything it has logged."""
        return self._log.read_text()

    def await_line(self, text: str) -> None:
        """Wait until it has logged this."""
        until(lambda: text in self.log(), what=f"{text!r} in the log")


@pytest.fixture
def processes(database: Database, tmp_path: Path) -> Iterator[Any]:
    """Start worker processes: `processes(VARIABLE="value")`."""
    started: list[Process] = []

    def start(**environment: str) -> Process:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Process(database, folder, **environment))
        return started[-1]

    yield start
    for process in started:
        process.process.kill()
        process.process.wait()
        process.client.close()


def running(jobs: Any, process: Process, tmp_path: Path, kind: str = "UNTIL") -> tuple[Any, Path]:
    """Have a job run there; returns it and the file that lets its handler return."""
    entered, file = tmp_path / "entered", tmp_path / "file"
    job = jobs.enqueue(kind, {"entered": str(entered), "file": str(file)})
    assert process.trigger(job).status_code == 202
    until(entered.exists, what="the handler")
    return job, file


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_job_finishes_within_the_grace(
    processes: Any, jobs: Any, tmp_path: Path, number: signal.Signals
) -> None:
    """And the process ends as soon as it has."""
    process = processes(SHUTDOWN_GRACE_SECONDS="20")
    job, file = running(jobs, process, tmp_path)
    process.process.send_signal(number)
    process.await_line("shutting down")
    assert jobs.state(job) == "running"
    file.touch()
    assert process.process.wait(20) == 0
    assert (jobs.state(job), jobs.row(job)["attempt"]) == ("succeeded", 1)


def test_it_says_that_it_is_draining(processes: Any, jobs: Any, tmp_path: Path) -> None:
    """From the signal until the running jobs are over, new connections too are told 503 and when to come again."""
    process = processes(SHUTDOWN_GRACE_SECONDS="3600", JOB_TRIGGER_MODE="db", WORKER_POLL_INTERVAL_MS="10")
    _, file = running(jobs, process, tmp_path)
    process.process.terminate()
    process.await_line("shutting down")
    with httpx.Client(base_url=process.client.base_url) as stranger:
        ready = stranger.get("/health/ready")
        # A claim that was sent before the signal may still take what is enqueued before Postgres gets to it.
        until(jobs.nobody_claims, what="the last claim to end")
        late = jobs.enqueue("UNTIL", {"entered": str(tmp_path / "never"), "file": str(tmp_path / "never")})
        refused = stranger.post("/process-job", json={"jobId": str(late)})
    assert (ready.status_code, ready.json()["status"]) == (503, "not-ready")
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:outboxkit:problem:draining")
    assert int(refused.headers["retry-after"]) > 0
    file.touch()
    assert process.process.wait(20) == 0
    assert jobs.state(late) == "queued", "nor does its poller take anything more"


@pytest.mark.parametrize("kind", ["UNTIL", "DEAF"])
def test_what_is_not_done_is_given_back(
    processes: Any, jobs: Any, tmp_path: Path, database: Database, kind: str
) -> None:
    """Queued at once with a trigger, not counted as an attempt, announced; also when its thread cannot be stopped."""
    process = processes(SHUTDOWN_GRACE_SECONDS="0.1")
    job, file = running(jobs, process, tmp_path, kind)
    with psycopg.connect(database.url, autocommit=True) as listening:
        listening.execute("listen outboxkit_wake")
        process.process.terminate()
        assert process.process.wait(20) == 0
        assert list(listening.notifies(timeout=20, stop_after=1))
    row = jobs.row(job)
    assert (row["state"], row["attempt"], row["max_attempts"], row["errors"]) == ("queued", 1, 2, [])
    assert (jobs.triggers(job), jobs.letters(job)) == (1, [])
    assert jobs.one("select count(*) as n from outboxkit.processes")["n"] == 0
    if kind == "UNTIL":
        file.touch()
        assert processes().trigger(job, prefer="wait=20").json()["state"] == "succeeded"
        assert jobs.row(job)["attempt"] == 2


def test_a_second_signal_ends_the_grace(processes: Any, jobs: Any, tmp_path: Path) -> None:
    """The running jobs are given back at once."""
    process = processes(SHUTDOWN_GRACE_SECONDS="3600")
    job, _ = running(jobs, process, tmp_path)
    process.process.terminate()
    process.await_line("shutting down")
    assert jobs.state(job) == "running"
    process.process.terminate()
    assert process.process.wait(20) == 0
    assert jobs.state(job) == "queued"


def test_requests_that_wait_are_answered_when_the_shutdown_begins(processes: Any, jobs: Any, tmp_path: Path) -> None:
    """202: their jobs are claimed, and finish or are given back; the requests do not hold the process up."""
    process = processes(SHUTDOWN_GRACE_SECONDS="3600")
    entered, file = tmp_path / "entered", tmp_path / "file"
    job = jobs.enqueue("UNTIL", {"entered": str(entered), "file": str(file)})
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(process.trigger, job, prefer="wait=600")
        until(entered.exists, what="the handler")
        process.process.terminate()
        assert (response.result(20).status_code, response.result().json()["state"]) == (202, "running")
    file.touch()
    assert process.process.wait(20) == 0
    assert jobs.state(job) == "succeeded"


def test_a_poller_s_jobs_are_given_back_too(processes: Any, jobs: Any, tmp_path: Path) -> None:
    """Nothing that was claimed is left running when the process has ended."""
    process = processes(JOB_TRIGGER_MODE="db", SHUTDOWN_GRACE_SECONDS="0", WORKER_CONCURRENCY="4")
    for number in range(8):
        jobs.enqueue("UNTIL", {"entered": str(tmp_path / str(number)), "file": str(tmp_path / "file")})
    until(lambda: sum((tmp_path / str(n)).exists() for n in range(8)) == 4, what="four jobs")
    process.process.terminate()
    assert process.process.wait(20) == 0
    states = jobs.connection.execute("select state, count(*) as n from outboxkit.jobs group by state").fetchall()
    assert states == [{"state": "queued", "n": 8}]
