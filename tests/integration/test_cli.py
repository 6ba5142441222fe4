"""Commands against a real database, and roles as real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from databases import Database
from outboxkit_cli.sockets import address, listening_socket
from waiting import answers, until


def environment(database: Database, **variables: str) -> dict[str, str]:
    """The environment of a role on this database."""
    return {**os.environ, "DATABASE_URL": database.url, "HOST": "127.0.0.1", "LOG_FORMAT": "json", **variables}


def outboxkit(*arguments: str, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the command line to its end."""
    argv = [sys.executable, "-m", "outboxkit_cli", *arguments]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def role(name: str, environ: dict[str, str], log: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Run a role on a free port until the block ends; yield its process and URL once it answers."""
    with listening_socket() as listener, log.open("wb") as output:
        descriptor, url = listener.fileno(), address(listener)
        argv = [sys.executable, "-m", "outboxkit_cli", name, "--fd", str(descriptor)]
        process = subprocess.Popen(argv, env=environ, stdout=output, stderr=output, pass_fds=[descriptor])
    try:
        until(lambda: answers(url) or process.poll() is not None, what=f"the {name} to answer")
        assert process.poll() is None, log.read_text()
        yield process, url
    finally:
        process.kill()
        process.wait()


def test_migrating_twice_is_migrating_once(empty_database: Database) -> None:
    """The second `migrate` finds nothing to do, and both say what is up to date."""
    for _ in range(2):
        done = outboxkit("migrate", "--branch", "reports", environ=environment(empty_database))
        assert (done.returncode, done.stdout) == (0, "Up to date: outboxkit, reports\n"), done.stderr


def test_the_printed_migrations_do_the_same(empty_database: Database, psql: Path) -> None:
    """What `migrate --sql` prints can be run by psql, after which `migrate` finds nothing to do."""
    environ = environment(empty_database)
    script = outboxkit("migrate", "--sql", environ=environ).stdout
    argv = [psql, empty_database.url, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-q"]
    subprocess.run(argv, input=script, text=True, check=True, capture_output=True)
    with empty_database.sync() as connection:
        tables = "select count(*) from pg_tables where schemaname = 'outboxkit'"
        before = connection.execute(tables).fetchone()
        assert outboxkit("migrate", environ=environ).returncode == 0
        assert connection.execute(tables).fetchone() == before


def test_enqueue_prints_the_id(database: Database) -> None:
    """`enqueue` commits the job with its trigger and prints the id, the same one again for the same unique key."""
    environ = environment(database)
    arguments = ["GREET", '{"name": "Ada"}', "--queue", "letters", "--unique-key", "ada"]
    ids = {outboxkit("enqueue", *arguments, environ=environ).stdout.strip() for _ in range(2)}
    with database.sync() as connection:
        rows = connection.execute("select id::text, kind, payload, queue from outboxkit.jobs").fetchall()
        assert rows == [(ids.pop(), "GREET", {"name": "Ada"}, "letters")]
        assert not ids
        assert connection.execute("select count(*) from outboxkit.outbox").fetchall() == [(1,)]


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_role_logs_json_and_stops_well(name: str, database: Database, tmp_path: Path) -> None:
    """Every line a role logs is JSON with a severity; SIGTERM ends it with 0, and its port refuses then."""
    log = tmp_path / "log"
    with role(name, environment(database, LOG_LEVEL="debug"), log) as (process, url):
        assert httpx.get(f"{url}/health/ready").status_code == 200
        assert httpx.get(f"{url}/no/such/page").status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not answers(url)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"severity", "message", "time"} <= set(line) for line in lines)
    assert any(f"Listening on {url}" in line["message"] for line in lines)


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_taken_port_is_one_line(name: str, database: Database) -> None:
    """A port that another process listens on ends the role with a line that names it."""
    with listening_socket() as listener:
        port = str(listener.getsockname()[1])
        done = outboxkit("start", environ=environment(database, SERVICE_MODE=name, PORT=port))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert port in done.stderr


def test_wrong_settings_leave_the_port_alone(database: Database) -> None:
    """With a wrong setting the process ends before it binds: what is wrong is said, not that the port is taken."""
    with listening_socket() as listener:
        port = str(listener.getsockname()[1])
        wrong = environment(database, SERVICE_MODE="worker", PORT=port, WORKER_CONCURRENCY="none", LOG_LEVEL="loud")
        done = outboxkit("start", environ=wrong)
    assert done.returncode == 2
    assert "WORKER_CONCURRENCY" in done.stderr
    assert "LOG_LEVEL" in done.stderr
    assert port not in done.stderr


def test_the_relay_drains_once(database: Database) -> None:
    """`relay --once` with nothing due exits with 0; with something due that cannot be delivered, with 1."""
    with listening_socket() as closed:
        url = address(closed)
    environ = environment(database, JOB_TRIGGER_MODE="http", WORKER_TRIGGER_URL=f"{url}/process-job")
    assert outboxkit("relay", "--once", environ=environ).returncode == 0
    assert outboxkit("enqueue", "GREET", environ=environ).returncode == 0
    done = outboxkit("relay", "--once", "--max-seconds", "5", environ=environ)
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_role_that_is_stopped_while_it_starts_ends_well(name: str, database: Database, tmp_path: Path) -> None:
    """SIGTERM ends it with 0 while it loads the application; PID 1 of a container would not hear it otherwise."""
    (tmp_path / "slow_app.py").write_text("import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(60)\n")
    argv = [sys.executable, "-m", "outboxkit_cli", name]
    environ = environment(database, OUTBOXKIT_APP="slow_app", PORT="0")
    with subprocess.Popen(argv, env=environ, cwd=tmp_path) as process:
        try:
            until((tmp_path / "loading").exists, what=f"the {name} to load its application")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
