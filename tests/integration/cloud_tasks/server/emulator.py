"""gcloud-tasks-emulator, which others wrote: in a virtualenv of its own, because it needs an old protobuf."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sink import free_port
from waiting import until

VERSION = "0.6.2"
INSTALLING_SECONDS = 300


class NotInstallableError(Exception):
    """There is no emulator here, and none can be fetched."""


def installed() -> Path:
    """Return the program, after installing it if it is not there yet; whoever comes second waits for the first."""
    name = f"outboxkit-tests-gcloud-tasks-emulator-{VERSION}-{sys.version_info[0]}.{sys.version_info[1]}-{os.getuid()}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        venv, done = folder / "venv", folder / "installed"
        if not done.exists():
            shutil.rmtree(venv, ignore_errors=True)
            install(venv)
            done.touch()
    return venv / "bin" / "gcloud-tasks-emulator"


def install(venv: Path) -> None:
    """Make the virtualenv; raises NotInstallableError with what was said."""
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    for argv in (
        [sys.executable, "-m", "venv", str(venv)],
        [str(venv / "bin" / "python"), *pip, f"gcloud-tasks-emulator=={VERSION}"],
    ):
        try:
            subprocess.run(argv, check=True, capture_output=True, text=True, timeout=INSTALLING_SECONDS)
        except subprocess.CalledProcessError as error:
            raise NotInstallableError(f"cannot install the emulator: {error.stdout}{error.stderr}") from error
        except subprocess.TimeoutExpired as error:
            raise NotInstallableError(f"installing the emulator took more than {INSTALLING_SECONDS} s") from error


@contextmanager
def running(program: Path) -> Iterator[str]:
    """Run the emulator until the block ends; yield host:port once it listens."""
    port = free_port()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [program, "start", "--port", str(port), "--quiet"], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            until(lambda: listens(port) or process.poll() is not None, what="the emulator to listen")
            if process.poll() is not None:
                output.seek(0)
                raise RuntimeError(f"the emulator ended: {output.read().decode()}")
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    """Tell whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
