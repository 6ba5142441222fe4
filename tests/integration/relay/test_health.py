"""What a relay with a port says of itself."""

import socket
import subprocess
import sys

import httpx
import pytest

from databases import Database
from relaying import Tables, eventually, running, settings
from sink import Sink, free_port


async def answer(port: int, path: str) -> httpx.Response | None:
    """The answer, None while nobody listens."""
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return await client.get(f"http://127.0.0.1:{port}{path}")
        except httpx.TransportError:
            return None


async def ready(port: int, status: int) -> bool:
    """Whether /health/ready is answered with this status."""
    found = await answer(port, "/health/ready")
    return found is not None and found.status_code == status


async def test_a_relay_in_the_mode_asked_for_is_ready(database: Database, sink: Sink) -> None:
    """200, with the mode, and the database as it is; alive at / and /health."""
    port = free_port()
    async with running(settings(database, sink.url, PORT=str(port))):
        await eventually(lambda: ready(port, 200), what="the relay to be ready")
        found = await answer(port, "/health/ready")
        assert found is not None
        document = found.json()
        assert (document["service"], document["mode"], document["modeConfigured"]) == ("relay", "http", True)
        assert (document["database"], document["migrations"], document["problems"]) == ("up", "current", [])
        for path in ("/", "/health"):
            alive = await answer(port, path)
            assert alive is not None
            assert alive.json()["status"] == "ok"
    assert await answer(port, "/health") is None


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"JOB_TRIGGER_MODE": "cloud-tasks"}, "CLOUD_TASKS_PROJECT is not set"),
        ({"JOB_TRIGGER_MODE": "htpp"}, "JOB_TRIGGER_MODE: 'htpp' is none of db, http, cloud-tasks, none"),
        ({"WORKER_TRIGGER_URL": "worker/process-job"}, "WORKER_TRIGGER_URL: 'worker/process-job' is no absolute"),
        ({"WORKER_TRIGGER_URL": "http://worker/hook"}, "WORKER_TRIGGER_URL: the path /hook"),
    ],
)
async def test_bad_configuration_is_red_and_work_flows(
    database: Database, db: Tables, sink: Sink, environ: dict[str, str], says: str
) -> None:
    """503 that names the variable with an example, the effective mode db, and both in the database for the others."""
    port = free_port()
    async with running(settings(database, sink.url, PORT=str(port), **environ)):
        await eventually(lambda: ready(port, 503), what="the relay to be red")
        await eventually(lambda: _published(db), what="the mode to be published")
        found = await answer(port, "/health/ready")
        assert found is not None
        document = found.json()
    assert (document["mode"], document["modeConfigured"]) == ("db", False)
    [problem] = [line for line in document["problems"] if line.startswith(says)] or document["problems"]
    assert problem.startswith(says)
    assert "For example" in problem
    assert await db.value("select effective_mode from outboxkit.trigger_settings") == "db"
    assert problem in await db.value("select problems from outboxkit.trigger_settings")


async def _published(db: Tables) -> bool:
    return bool(await db.value("select published_at is not null from outboxkit.trigger_settings"))


async def test_a_database_that_is_away_is_red(sink: Sink) -> None:
    """The relay lives, says so, and is not ready."""
    port = free_port()
    away = "postgresql://nobody@127.0.0.1:9/nothing"
    async with running(settings(away, sink.url, PORT=str(port))):
        await eventually(lambda: ready(port, 503), what="the relay to be red")
        found = await answer(port, "/health/ready")
        assert found is not None
        assert found.json()["database"] == "down"
        alive = await answer(port, "/health")
        assert alive is not None
        assert alive.status_code == 200


def test_a_port_that_is_taken_is_named(database: Database) -> None:
    """One line, status 1, and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            [sys.executable, "-m", "outboxkit_cli", "relay"],
            env={"DATABASE_URL": database.url, "PORT": str(port), "HOST": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert run.returncode == 1
    assert "PORT" in run.stderr
    assert "Traceback" not in run.stderr
