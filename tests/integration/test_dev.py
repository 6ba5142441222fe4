"""`outboxkit dev` runs everything round a user's own module, and takes everything down again."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from waiting import command_line, ended, until

JOBS = '''
"""A user's own module, as the documentation shows it: imported by producer and worker."""

from contextlib import asynccontextmanager

import msgspec
from outboxkit import Handlers, Job, Retry
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

handlers = Handlers()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    invoiced: Mapped[bool] = mapped_column(default=False)


class Mailer:
    async def send(self, order):
        return True


class App:
    mailer = Mailer()


@asynccontextmanager
async def lifespan(engine):
    yield App()


class SendInvoice(msgspec.Struct):
    order_id: int


@handlers.register("SEND_INVOICE", max_attempts=5, timeout=60)
async def send_invoice(payload: SendInvoice, job: Job) -> None:
    order = await job.session.get(Order, payload.order_id)
    if not await job.app.mailer.send(order):
        raise Retry(after=30)
    order.invoiced = True
'''
SETUP = """
import os
import psycopg
from myapp.jobs import Base
from outboxkit.database import sqlalchemy_url
from sqlalchemy import create_engine

Base.metadata.create_all(create_engine(sqlalchemy_url(os.environ["DATABASE_URL"])))
"""
ORDER = """
with placed as (insert into orders (invoiced) values (false) returning id)
select outboxkit.enqueue_job('SEND_INVOICE', jsonb_build_object('order_id', id)) from placed
"""
ANNOUNCED = re.compile(r"^  (web|worker|database) +(\S+)$")
LONGEST = 60.0


@dataclass(frozen=True)
class Dev:
    """A running `outboxkit dev`, and what it announced."""

    process: "subprocess.Popen[str]"
    web: str
    worker: str
    database: str

    def family(self) -> list[psutil.Process]:
        """Every process below it: the roles, Postgres, and Postgres's guardian."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def role(self, name: str) -> psutil.Process:
        """The process of one role."""
        return next(child for child in self.family() if {"outboxkit_cli", name} <= set(command_line(child)))


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A folder with the module myapp.jobs in it, and a script that makes its table."""
    package = tmp_path / "myapp"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jobs.py").write_text(JOBS)
    (tmp_path / "make_tables.py").write_text(SETUP)
    return tmp_path


@contextmanager
def dev(folder: Path, *arguments: str) -> Iterator[Dev]:
    """Run `outboxkit dev` in a folder and yield it once it has announced where everything is."""
    argv = [sys.executable, "-m", "outboxkit_cli", "dev", *arguments]
    log = folder / "dev.log"
    with log.open("w") as output:
        process = subprocess.Popen(argv, cwd=folder, stdout=output, stderr=output, text=True, start_new_session=True)
    try:
        until(lambda: announced(log) or process.poll() is not None, what="the announcement", within=LONGEST)
        where = announced(log)
        assert where, log.read_text()
        yield Dev(process, **where)
    finally:
        process.kill()
        process.wait()


def announced(log: Path) -> dict[str, str]:
    """What the log says about where everything is; nothing until it says all of it."""
    found = dict(match.groups() for line in log.read_text().splitlines() if (match := ANNOUNCED.match(line)))
    return found if len(found) == 3 else {}


def orders(folder: Path) -> list[str]:
    """The arguments that run the module of `module`."""
    setup = f"{shlex.quote(sys.executable)} make_tables.py"
    assert (folder / "make_tables.py").exists()
    return ["--app", "myapp.jobs", "--setup", setup]


def value(url: str, query: str) -> object:
    """The one value of a query."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("mode", ["http", "db", "cloud-tasks"])
def test_a_module_of_ones_own_runs(mode: str, module: Path) -> None:
    """A job of a module outside the repository is run, in every mode; Ctrl-C ends it well and leaves no process."""
    with dev(module, *orders(module), "--mode", mode) as running:
        value(running.database, ORDER)
        state = "select state from outboxkit.jobs"
        until(lambda: value(running.database, state) == "succeeded", what="the job to be done")
        assert value(running.database, "select invoiced from orders") is True
        assert value(running.database, "select count(*) from outboxkit.outbox") == 0
        assert httpx.get(f"{running.worker}/health/ready").json()["mode"] == mode
        assert stopped_by(signal.SIGINT, running) == 0


def test_the_local_cloud_tasks_dies_with_the_others(module: Path) -> None:
    """It is one of the roles: when it is killed everything ends, and a supervisor that is killed takes it along."""
    with dev(module, *orders(module), "--mode", "cloud-tasks") as running:
        family = running.family()
        running.role("cloud-tasks").kill()
        assert running.process.wait(LONGEST) == 1
        for member in family:
            until(lambda member=member: ended(member), what=f"{member} to end")  # type: ignore[misc] # a lambda's default has no type
    assert "tasks ended (killed by SIGKILL)" in (module / "dev.log").read_text()
    with dev(module, *orders(module), "--mode", "cloud-tasks") as running:
        stopped_by(signal.SIGKILL, running)


def test_dev_without_a_module_says_what_to_give() -> None:
    """`outboxkit dev` alone is a usage error with an example."""
    argv = [sys.executable, "-m", "outboxkit_cli", "dev"]
    run = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LONGEST)
    assert run.returncode == 2
    assert "--app myapp.jobs" in run.stderr


def test_a_closed_terminal_stops_everything(module: Path) -> None:
    """SIGHUP and SIGTERM are an orderly stop, as Ctrl-C is."""
    with dev(module, *orders(module)) as running:
        assert stopped_by(signal.SIGHUP, running) == 0


def stopped_by(number: signal.Signals, running: Dev) -> int:
    """Stop it with a signal; return its status after checking that every process has ended."""
    family = running.family()
    assert len(family) > 4  # three roles, the guardian, Postgres and its own
    running.process.send_signal(number)
    status = running.process.wait(LONGEST)
    for member in family:
        until(lambda member=member: ended(member), what=f"{member} to end")  # type: ignore[misc] # a lambda's default has no type
    return status


def test_nothing_outlives_a_killed_supervisor(module: Path) -> None:
    """After a SIGKILL, which nobody can answer, every process ends all the same, and the database's files go."""
    with dev(module, *orders(module)) as running:
        directory = Path(str(psycopg.conninfo.conninfo_to_dict(running.database)["host"]))
        assert directory.is_dir()
        stopped_by(signal.SIGKILL, running)
        until(lambda: not directory.exists(), what="the database's directory to be removed")


@pytest.mark.parametrize("role", ["web", "relay", "worker"])
def test_a_dead_role_ends_everything(role: str, module: Path) -> None:
    """When a role dies, the others are stopped, and the error names it, with its last lines."""
    with dev(module, *orders(module)) as running:
        family = running.family()
        running.role(role).kill()
        assert running.process.wait(LONGEST) == 1
        for member in family:
            until(lambda member=member: ended(member), what=f"{member} to end")  # type: ignore[misc] # as above
    assert f"{role} ended (killed by SIGKILL)" in (module / "dev.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--app", "myapp.nonsense"], 1, "no module named 'myapp.nonsense'"),
        (["--app", "myapp"], 1, "has no `handlers`"),
        (["--app", "myapp.jobs", "--setup", "exit 7"], 1, "status 7"),
    ],
)
def test_what_cannot_start_says_why(arguments: list[str], status: int, said: str, module: Path) -> None:
    """A wrong module or a failing set-up command ends it at once, with the reason on stderr."""
    argv = [sys.executable, "-m", "outboxkit_cli", "dev", *arguments]
    done = subprocess.run(argv, cwd=module, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode == status
    assert said in done.stderr


def test_two_at_once_do_not_meet(module: Path) -> None:
    """Two of them in one folder have ports and databases of their own."""
    with dev(module, *orders(module)) as one:
        (module / "dev.log").rename(module / "one.log")
        with dev(module, *orders(module)) as other:
            assert {one.web, one.worker, one.database}.isdisjoint({other.web, other.worker, other.database})
            for running in (one, other):
                assert httpx.get(f"{running.web}/health/ready").status_code == 200
