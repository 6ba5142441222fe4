"""Logins with the rights of the roles, and the scripts of examples/shell run as a user would run them."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from contract.tables import stdlib_worker
from contract.tables.statements import SHELL
from contract.tables.stdlib_worker import StdlibWorker
from databases import Database
from waiting import until

ROLES = Path(__file__).parents[3] / "deploy" / "sql" / "roles.sql"


class Logins:
    """URLs of the same database for logins that have just the rights of a role."""

    def __init__(self, database: Database) -> None:
        self._url = database.url
        self.names = {role: f"{role}_{uuid4().hex[:12]}" for role in ("web", "relay", "worker")}

    def url(self, role: str) -> str:
        """The URL for this role's login, its name and password in it."""
        parts = urlsplit(self._url)
        name = self.names[role]
        return urlunsplit(parts._replace(netloc=f"{name}:{name}@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture
def logins(database: Database, psql: Path) -> Iterator[Logins]:
    """A login for each role, with what deploy/sql/roles.sql grants; the application's tables are there for all of them."""
    made = Logins(database)
    with database.sync() as connection:
        for name in made.names.values():
            connection.execute(
                sql.SQL("create role {} login password {}").format(sql.Identifier(name), sql.Literal(name))
            )
        variables = [argument for role, name in made.names.items() for argument in ("-v", f"{role}={name}")]
        subprocess.run([psql, database.url, "-qX", *variables, "-f", ROLES], check=True)
        connection.execute(
            "create table orders (name text); create table effects (job_id uuid, attempt integer, worker text)"
        )
        connection.execute("grant insert, select on orders, effects to public")
        yield made
        for name in made.names.values():
            connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


class ShellWorker:
    """work.sh, running."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    @property
    def worker(self) -> str:
        """The id under which it claims; waits until it is known."""
        until(lambda: " worker " in self.log, what="the worker to start")
        return self.log.partition(" worker ")[2].split()[0]

    def freeze(self) -> None:
        """Stop the script in its tracks; the command that it runs goes on."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """Ask it to end; its exit status."""
        self.process.terminate()
        return self.process.wait(30)


class Shell:
    """Runs the scripts as a user does: as programs, with variables in the environment."""

    def __init__(self, logins: Logins, psql: Path, folder: Path) -> None:
        self._logins = logins
        self._folder = folder
        self._path = f"{psql.parent}:{os.environ['PATH']}"
        self._workers: list[ShellWorker] = []

    def environment(self, role: str, **variables: Any) -> dict[str, str]:
        """What a script of this role is started with."""
        said = {name: str(value) for name, value in variables.items()}
        return {**os.environ, "PATH": self._path, "DATABASE_URL": self._logins.url(role), **said}

    def try_to_produce(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run produce.sh with the rights of the web role."""
        command = [SHELL / "produce.sh", *arguments]
        return subprocess.run(command, env=self.environment("web"), capture_output=True, text=True, check=False)

    def produce(self, *arguments: str) -> str:
        """Run it, and return the id that it printed."""
        done = self.try_to_produce(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def command(self, text: str) -> Path:
        """Make a program of this bash script, to be run for jobs."""
        path = self._folder / f"command-{uuid4().hex[:8]}"
        path.write_text(f"#!/usr/bin/env bash\nset -eu\n{text}\n")
        path.chmod(0o755)
        return path

    def work(self, kind: str, command: Path, **variables: Any) -> ShellWorker:
        """Start work.sh with the rights of the worker role; it polls fast and tries again at once."""
        log = self._folder / f"log-{uuid4().hex[:8]}"
        hurried = {"WORKER_POLL_SECONDS": 0.05, "JOB_BACKOFF_SECONDS": 0, **variables}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [SHELL / "work.sh", kind, command],
                env=self.environment("worker", **hurried),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._workers.append(ShellWorker(process, log))
        return self._workers[-1]

    def stop(self) -> None:
        """End whatever still runs."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.thaw()
                worker.terminate()


@pytest.fixture
def shell(logins: Logins, psql: Path, tmp_path: Path) -> Iterator[Shell]:
    """The scripts."""
    made = Shell(logins, psql, tmp_path)
    yield made
    made.stop()


class Looker:
    """Looks at the tables as their owner."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), values).fetchall()

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement that has no rows."""
        self._connection.execute(statement.encode(), values)

    def job(self, job: str) -> dict[str, Any]:
        """A job as it stands."""
        return self.rows("select * from outboxkit.jobs where id = %s", job)[0]

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self.rows(f"select count(*) from {table}")[0]["count"])  # noqa: S608 (ours)

    def becomes(self, job: str, state: str) -> dict[str, Any]:
        """The job, once it is in this state."""
        until(lambda: self.job(job)["state"] == state, what=f"{job} to be {state}")
        return self.job(job)


@pytest.fixture
def look(database: Database) -> Iterator[Looker]:
    """The owner's eyes."""
    with database.sync() as connection:
        yield Looker(connection)


Start = Callable[..., StdlibWorker]


@pytest.fixture
def start(logins: Logins, psql: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a worker; `url` is the test's database unless it is given."""
    started: list[StdlibWorker] = []

    def begin(**options: object) -> StdlibWorker:
        url = options.pop("url", logins.url("worker"))
        started.append(stdlib_worker.start(tmp_path, psql, url, **options))  # type: ignore[arg-type]  # a test's own
        return started[-1]

    yield begin
    for worker in started:
        worker.client.close()
        if worker.process.poll() is None:
            worker.stop()
