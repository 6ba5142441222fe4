"""scripts/setup says what a bare machine misses, in a line that can be pasted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "scripts" / "setup"
TOOLS = ("bash", "env", "dirname", "id", "cat", "sh", "git")
NO_ENSUREPIP = """#!/bin/sh
case "$*" in *ensurepip*) exit 1;; esac
exec {python} "$@"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder for PATH with a few tools in it, and no Python; the checkout's copy is beside it."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in TOOLS:
        (bin_folder / tool).symlink_to(str(shutil.which(tool)))
    (tmp_path / "checkout" / "scripts").mkdir(parents=True)
    shutil.copy(SETUP, tmp_path / "checkout" / "scripts")
    return bin_folder


def add_python(machine: Path, script: str) -> None:
    """Put a python3 on the machine."""
    python = machine / "python3"
    python.write_text(script.format(python=os.path.realpath(sys.executable)))
    python.chmod(0o755)


def run(machine: Path) -> "subprocess.CompletedProcess[str]":
    """Run the set-up where only the machine's tools are found."""
    argv = [machine.parent / "checkout" / "scripts" / "setup"]
    environ = {"PATH": str(machine)}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


def test_without_python_the_apt_line_brings_it(machine: Path) -> None:
    """No Python at all: the line has python3 and its module for virtualenvs."""
    done = run(machine)
    assert done.returncode == 1
    assert "apt-get install -y python3 python3-venv\n" in done.stderr


def test_without_ensurepip_the_apt_line_brings_it(machine: Path) -> None:
    """Debian's Python without python3.x-venv: the line has that package, of this Python's version."""
    add_python(machine, NO_ENSUREPIP)
    done = run(machine)
    assert done.returncode == 1
    assert "ensurepip" in done.stderr
    assert "apt-get install -y python3." in done.stderr
    assert "-venv\n" in done.stderr


def test_an_old_python_is_no_python(machine: Path) -> None:
    """A Python that is too old is not used."""
    add_python(machine, "#!/bin/sh\nexit 1\n")
    done = run(machine)
    assert done.returncode == 1
    assert "3.11 or newer" in done.stderr


def test_everything_that_is_missing_is_in_one_line(machine: Path) -> None:
    """Git is named together with the rest, and root is not told to use sudo."""
    (machine / "git").unlink()
    done = run(machine)
    assert "install -y python3 python3-venv git\n" in done.stderr
    assert ("sudo" in done.stderr) == (os.geteuid() != 0)
