"""The server as a process of its own."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from integration.cloud_tasks.server.emulator import listens
from integration.cloud_tasks.server.targets import Worker, connected
from sink import free_port
from waiting import until

PROGRAM = """
from outboxkit_cli.cloud_tasks.serve import run
from outboxkit_cli.cloud_tasks.server import ServerOptions

run(ServerOptions(project="p", location="l", queues=("jobs", "slow")))
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """The process, and what it prints."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        started = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=file, stderr=subprocess.STDOUT)
    try:
        until(lambda: "curl" in output.read_text() or started.poll() is not None, what="the server to say where it is")
        yield started, output
    finally:
        started.kill()
        started.wait()


def exported(output: Path) -> dict[str, str]:
    """The variables that are there to be pasted, as a shell reads them."""
    lines = [line.strip() for line in output.read_text().splitlines() if line.startswith("  export ")]
    script = "\n".join([*lines, "env -0"])
    found = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True)
    return dict(each.split("=", 1) for each in found.stdout.split("\0") if each)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_is_and_ends_well(
    process: tuple["subprocess.Popen[bytes]", Path], number: signal.Signals, worker: Worker
) -> None:
    """What it prints leads to it; a signal ends it with 0, whatever is under way."""
    started, output = process
    variables = exported(output)
    assert (variables["CLOUD_TASKS_PROJECT"], variables["CLOUD_TASKS_QUEUE"]) == ("p", "jobs")
    assert variables["WORKER_TASK_SERVICE_ACCOUNT"] == variables["WORKER_OIDC_SERVICE_ACCOUNTS"]
    issuer = variables["WORKER_OIDC_ISSUER"]
    assert issuer == f"http://{variables['GCE_METADATA_HOST']}"
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{issuer}/.well-known/openid-configuration")).json()["issuer"] == issuer
    async with connected("ours", variables["CLOUD_TASKS_EMULATOR_HOST"], patience=30) as tasks:
        await tasks.create("projects/p/locations/l/queues/slow", worker)
        await worker.asked()
    started.send_signal(number)
    until(lambda: started.poll() is not None, what="the server to end")
    assert started.returncode == 0, output.read_text()
    assert re.search(r"INFO +200 from http\S+ for projects/p/locations/l/queues/slow/tasks/\d+", output.read_text())
    assert output.read_text().endswith("Stopped.\n")


def test_it_can_be_quiet(tmp_path: Path) -> None:
    """Beside other roles it says nothing but what happens."""
    output, port = tmp_path / "output", free_port()
    program = PROGRAM.replace("ServerOptions(", f"ServerOptions(http_port={port}, ").replace("))\n", "), quiet=True)\n")
    with (
        output.open("wb") as file,
        subprocess.Popen([sys.executable, "-c", program], stdout=file, stderr=file) as started,
    ):
        until(lambda: listens(port) or started.poll() is not None, what="the server to listen")
        started.send_signal(signal.SIGTERM)
    assert (started.returncode, output.read_text()) == (0, "")


def test_the_variables_can_be_asked_for_without_google_s_libraries() -> None:
    """Whoever only starts other processes need not load them."""
    program = """
import sys
from outboxkit_cli.cloud_tasks.environment import environment

print(environment(tasks="a:1", issuer="http://a:2"))
print([name for name in ("grpc", "google.cloud", "aiohttp", "jwt") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "'GCE_METADATA_HOST': 'a:2'" in done.stdout
    assert done.stdout.endswith("[]\n")
