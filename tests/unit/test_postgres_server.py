"""The tests' Postgres is chosen quickly, and what cannot be had is said once, with the way out."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import postgres_server
from container_engine import UnavailableError
from databases import Database

TESTS = Path(__file__).parents[1]
WITHOUT_DOCKER = """
import sys
sys.path.insert(0, sys.argv[1])
import postgres_server
print(postgres_server.choose({}).kind, any(name.partition(".")[0] in {"docker", "testcontainers"} for name in sys.modules))
"""


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A socket's path, which is where the engine is looked for and where there is none."""
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    return path


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with this environment and no other TEST_ variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "PYTEST_"))}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, check=False)


def test_without_an_engine_it_is_the_embedded_server(nowhere: Path) -> None:
    """Where nothing points to an engine the tests run embedded, and the run's header says why no container."""
    chosen = postgres_server.choose({})
    assert chosen.kind == "embedded"
    assert f"no container engine answers at DOCKER_HOST=unix://{nowhere}" in chosen.description


@pytest.mark.usefixtures("nowhere")
def test_without_an_engine_nothing_of_docker_is_imported() -> None:
    """It costs time, and there would be nothing to ask."""
    assert run("-c", WITHOUT_DOCKER, str(TESTS)).stdout.split() == ["embedded", "False"]


def test_an_engine_that_does_not_answer_is_none(nowhere: Path) -> None:
    """A socket that nobody listens on, as a crashed engine leaves it, ends as no engine does."""
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(nowhere))
    chosen = postgres_server.choose({})
    assert chosen.kind == "embedded"
    assert "no container engine answers at DOCKER_HOST=unix://" in chosen.description


def test_embedded_asks_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants the embedded server gets it, engine or no engine."""
    monkeypatch.setattr(postgres_server, "ensure_images", lambda *_: pytest.fail("asked an engine"))
    assert postgres_server.choose({"TEST_POSTGRES": "embedded"}).kind == "embedded"


def test_a_given_server_comes_first(database: Database) -> None:
    """TEST_DATABASE_URL is used, whatever else is set; the header says which version it is, and no password."""
    chosen = postgres_server.choose({"TEST_DATABASE_URL": database.url, "TEST_POSTGRES": "container"})
    assert chosen.kind == "given"
    assert chosen.description.startswith("PostgreSQL 1")
    assert database.url not in chosen.description


def test_a_given_server_that_is_not_there() -> None:
    """It is not replaced by another."""
    with pytest.raises(UnavailableError, match="TEST_DATABASE_URL: connection failed"):
        postgres_server.choose({"TEST_DATABASE_URL": "postgresql://127.0.0.1:1/x"})


def test_a_misspelt_choice() -> None:
    """It is not taken for no choice."""
    with pytest.raises(UnavailableError, match="TEST_POSTGRES=docker: there is only container and embedded"):
        postgres_server.choose({"TEST_POSTGRES": "docker"})


@pytest.mark.usefixtures("nowhere")
def test_a_container_that_cannot_be_had_ends_the_run_at_once() -> None:
    """TEST_POSTGRES=container without an engine is one line and no test, neither skipped nor failed."""
    done = run("-m", "pytest", "-n", "2", "-p", "no:cacheprovider", __file__, TEST_POSTGRES="container")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stdout.strip() == ""
    assert done.stderr.startswith("ERROR: TEST_POSTGRES=container: no container engine answers at DOCKER_HOST=")
    assert done.stderr.count("\n") <= 2
    for way_out in ("TEST_POSTGRES=embedded", "TEST_POSTGRES_IMAGE", "TEST_DATABASE_URL", "RYUK"):
        assert way_out in done.stderr
