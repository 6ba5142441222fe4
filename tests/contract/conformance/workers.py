"""Workers as programs of their own, for the suite to be pointed at."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sink import free_port
from waiting import answers, until

SECRET = "s3cret-Of-the-test"
SLOTS = 4
HERE = Path(__file__).parent
EXAMPLE = HERE.parents[2] / "examples" / "stdlib-worker"
PYTHON = (sys.executable, "-B")

OURS = (*PYTHON, "-m", "outboxkit_cli", "start")
STANDARD_LIBRARY = (*PYTHON, str(EXAMPLE / "worker.py"))


def broken(name: str) -> Sequence[str]:
    """The command of a broken worker."""
    return (*PYTHON, str(HERE / "broken.py"), name)


@contextmanager
def running(command: Sequence[str], database_url: str, psql: Path, **changes: str) -> Iterator[str]:
    """Run a worker on a port of its own, its jobs in this database; yields its address once it answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command, env=environment(port, database_url, psql) | changes, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            until(lambda: answers(url) or process.poll() is not None, what="the worker to answer")
            assert process.poll() is None, process.stdout and process.stdout.read().decode()
            yield url
        finally:
            process.kill()
            process.communicate()


def environment(port: int, database_url: str, psql: Path) -> Mapping[str, str]:
    """What each of the workers reads."""
    return os.environ | {
        "PATH": f"{psql.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(EXAMPLE), str(HERE)]),
        "SERVICE_MODE": "worker",
        "OUTBOXKIT_APP": "sample_jobs",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATABASE_URL": database_url,
        "JOB_TRIGGER_MODE": "none",
        "WORKER_TRIGGER_SECRET": SECRET,
        "WORKER_CONCURRENCY": str(SLOTS),
        "LOG_LEVEL": "ERROR",
    }
