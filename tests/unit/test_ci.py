"""CI never leaves the run on containers out: without a container engine it fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / ".ci" / "run"
# Says how it was called, and with which server.
STAND_IN = '#!/bin/sh\necho "$(basename "$0") $* on ${TEST_POSTGRES:-}${TEST_DATABASE_URL:-}"\n'
STARTER = '#!/bin/sh\necho "engine started"\nexec "$@"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout where every step that CI takes is a stand-in."""
    folder = tmp_path / "checkout"
    for file in (".venv/bin/python", "docs/model/check.py", "tools/make"):
        add_program(folder / file, STAND_IN)
    for tool in ("spin", "cc", "git", "python3"):
        add_program(folder / "tools" / tool, "#!/bin/sh\n")
    add_program(folder / "tools" / "docker", "#!/bin/sh\nexit 1\n")
    (folder / ".ci").mkdir()
    shutil.copy(CI, folder / ".ci")
    return folder


def add_program(path: Path, script: str) -> None:
    """Put an executable script there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


def run(checkout: Path) -> "subprocess.CompletedProcess[str]":
    """Run CI there, with a server of the user's own at hand."""
    environment = {"PATH": f"{checkout / 'tools'}:{os.environ['PATH']}", "TEST_DATABASE_URL": "postgresql://mine"}
    return subprocess.run(
        ["bash", checkout / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
    )


def test_without_an_engine_it_fails(checkout: Path) -> None:
    """It says what is missing, and runs nothing."""
    done = run(checkout)
    assert (done.returncode, done.stdout) == (1, "")
    assert "CI needs a container engine" in done.stderr


def test_with_an_engine_it_runs_on_both_servers(checkout: Path) -> None:
    """Everything on a container, what uses a database on the embedded server too, and on no other."""
    add_program(checkout / "tools" / "docker", "#!/bin/sh\n")
    done = run(checkout)
    assert done.returncode == 0, done.stderr
    assert "make test on container\n" in done.stdout
    assert (
        "python -m pytest -n 2 -m postgres tests/integration --ignore tests/integration/cloud_tasks on embedded\n"
        in done.stdout
    )
    assert "mine" not in done.stdout


def test_an_engine_that_can_be_started_is(checkout: Path) -> None:
    """Where none answers, the script beside the checkout brings one for the whole run."""
    add_program(checkout.parent / "shared" / "docker" / "with-docker", STARTER)
    done = run(checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("engine started\nmake lint-openapi on \nmake test on container\n")


def test_an_engine_that_does_not_start_fails_it(checkout: Path) -> None:
    """With the status of what could not be started, and nothing run."""
    add_program(checkout.parent / "shared" / "docker" / "with-docker", "#!/bin/sh\nexit 70\n")
    done = run(checkout)
    assert (done.returncode, done.stdout) == (70, "")
