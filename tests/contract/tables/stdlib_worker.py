"""examples/stdlib-worker as a process of its own, with what a test wants of it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from contract.tables.statements import SHELL
from outboxkit_contracts.actions import Action, classify
from outboxkit_contracts.problems import parse_problem
from waiting import until

FOLDER = SHELL.parent / "stdlib-worker"
SECRET = "s€cret 'with' \\ all"

# What a test may change before the worker starts: a module's constants, which no user needs to.
_CHANGED = """
import sys; sys.path.insert(0, {folder!r})
import {module}, worker; {module}.{name} = {value!r}
worker.main()"""


class StdlibWorker:
    """The worker, running with nothing but the standard library on its path."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        started = re.compile(r"worker on port (\d+)")
        until(lambda: started.search(self.log) or process.poll() is not None, what="the worker to start")
        found = started.search(self.log)
        assert found, self.log
        self.port = int(found[1])
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def post(self, content: bytes, **headers: str) -> httpx.Response:
        """A POST to /process-job with the secret; header names may be written with underscores, and one may be emptied."""
        lines = {"x-worker-trigger": SECRET, "content-type": "application/json"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        encoded = [(name.encode(), value.encode()) for name, value in lines.items() if value]
        return self.client.post("/process-job", content=content, headers=encoded)

    def trigger(self, job: str, **headers: str) -> httpx.Response:
        """A trigger for this job."""
        return self.post(f'{{"jobId": "{job}"}}'.encode(), **headers)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


def start(
    folder: Path, psql: Path, url: str | None, *, change: tuple[str, str, Any] | None = None, **variables: Any
) -> StdlibWorker:
    """Start it on a free port: retries at once, no grace. `change`: a module, its constant, and another value for it."""
    command = [sys.executable, "-E", "-s", "-S"]
    if change is None:
        command.append(str(FOLDER / "worker.py"))
    else:
        module, name, value = change
        command += ["-c", _CHANGED.format(folder=str(FOLDER), module=module, name=name, value=value)]
    hurried = {"JOB_BACKOFF_SECONDS": 0, "SHUTDOWN_GRACE_SECONDS": 0}
    said = {"PORT": 0, "HOST": "127.0.0.1", "WORKER_TRIGGER_SECRET": SECRET, **hurried, **variables}
    environment = {name: str(value) for name, value in said.items()} | {"PATH": f"{psql.parent}:{os.environ['PATH']}"}
    if url is not None:
        environment["DATABASE_URL"] = url
    log = folder / f"stdlib-worker-{len(list(folder.iterdir()))}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    return StdlibWorker(process, log)


def problem(answer: httpx.Response) -> tuple[int, str, Action]:
    """An answer that is a problem: its status, its slug, and what a relay does about it."""
    assert answer.headers["content-type"] == "application/problem+json"
    found = parse_problem(answer.content)
    assert found is not None
    assert found.status == answer.status_code
    if found.retry_after is not None:
        assert answer.headers["retry-after"] == str(found.retry_after)
    return answer.status_code, found.type.removeprefix("urn:outboxkit:problem:"), action(answer)


def action(answer: httpx.Response, job: str | None = None) -> Action:
    """What a relay does about it."""
    kind, after = answer.headers.get("content-type"), answer.headers.get("retry-after")
    about = job or answer.json().get("jobId") or uuid4()
    return classify(answer.status_code, kind, answer.content, after, job_id=UUID(str(about))).action


def accepted(answer: httpx.Response, job: str) -> tuple[int, str, bool]:
    """An answer that accepts the job: its status, the state it tells, and whether it is a duplicate."""
    assert action(answer, job) is Action.ACK, answer.text
    document = answer.json()
    return answer.status_code, document["state"], document["duplicate"]
