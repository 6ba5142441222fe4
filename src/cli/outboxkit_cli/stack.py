"""All roles round one application, as separate processes on one database: what dev and demo run."""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from outboxkit.database import conninfo
from outboxkit.modes import Mode
from outboxkit_cli.embedded import EmbeddedPostgres
from outboxkit_cli.extras import needs_extra
from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.sockets import address, listening_socket
from outboxkit_cli.supervisor import Program, Supervisor
from outboxkit_cli.terminal import is_terminal

READY_SECONDS = 30.0
READY_POLL_SECONDS = 0.05
SECRET_BYTES = 24


@dataclass(frozen=True, kw_only=True)
class LocalGoogle:
    """Where the local Cloud Tasks is: its gRPC as host:port, and the URL of its HTTP side, which issues tokens."""

    tasks: str
    issuer: str


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Where everything is once it runs."""

    app: str
    mode: str
    database_url: str
    web: str
    worker: str
    secret: str
    google: LocalGoogle | None = None
    """In cloud-tasks mode, what stands in for Google."""


class NotReady(CommandFailed):
    """The roles run, but one of them is not ready."""


@contextmanager
def database(given: str | None, *, data: Path | None) -> Iterator[str]:
    """Yield the URL of the given database, else of an embedded Postgres that lives as long as the block."""
    if given is not None:
        yield given
        return
    with EmbeddedPostgres(data=data) as postgres:
        yield postgres.url


@asynccontextmanager
async def running(
    supervisor: Supervisor, *, app: str, mode: str, database_url: str, port: int = 0
) -> AsyncIterator[Stack]:
    """Start web, relay and worker, and yield when all three are ready; the supervisor stops them.

    In the mode cloud-tasks a local Cloud Tasks is started before them. `port` is the web's (0: a free one). Raises
    ChildDied when one of them ends before it is ready, NotReady when that takes longer than 30 s, and CommandFailed when the
    port is taken.
    """
    google = await start_google(supervisor) if mode == Mode.CLOUD_TASKS else None
    with listening_socket(port=port) as web, listening_socket() as worker:
        stack = Stack(
            app=app,
            mode=mode,
            database_url=database_url,
            web=address(web),
            worker=address(worker),
            secret=secrets.token_urlsafe(SECRET_BYTES),
            google=google,
        )
        children = {p.name: await supervisor.start(p) for p in programs(stack, web=web, worker=worker)}
    # Our own copies of the sockets are closed now: when a role dies, its port refuses connections.
    await supervisor.alongside(ready(stack, relay=children["relay"].process.pid))
    yield stack


async def start_google(supervisor: Supervisor) -> LocalGoogle:
    """Start the local Cloud Tasks, and return where it is once it answers."""
    # It opens its ports itself, for gRPC inherits no socket: found free here, they are most likely so a moment later.
    with listening_socket() as grpc, listening_socket() as http:
        google = LocalGoogle(tasks=address(grpc).removeprefix("http://"), issuer=address(http))
    ports = ["--port", google.tasks.rpartition(":")[2], "--http-port", google.issuer.rpartition(":")[2]]
    command = [sys.executable, "-m", "outboxkit_cli", "dev", "cloud-tasks", "--quiet", *ports]
    await supervisor.start(Program(name="tasks", argv=command, environment={**os.environ, "PYTHONUNBUFFERED": "1"}))
    answers = answers_ok(google.issuer, "/.well-known/openid-configuration")
    try:
        async with asyncio.timeout(READY_SECONDS):
            await supervisor.alongside(answers)
    except TimeoutError:
        raise NotReady(f"the local Cloud Tasks was not ready after {READY_SECONDS:g} s") from None
    return google


def programs(stack: Stack, *, web: socket.socket, worker: socket.socket) -> Iterator[Program]:
    """Return the three roles' command lines; web and worker inherit the sockets they serve."""
    environment = role_environment(stack, os.environ)
    for name, listener in (("web", web), ("worker", worker)):
        yield Program(
            name=name,
            argv=[sys.executable, "-m", "outboxkit_cli", name, "--fd", str(listener.fileno())],
            environment=environment,
            descriptors=[listener.fileno()],
        )
    # PORT, if it is set, is meant for one process: the web has its own option, and the relay needs none here.
    relay = {**environment, "PORT": ""}
    yield Program(name="relay", argv=[sys.executable, "-m", "outboxkit_cli", "relay"], environment=relay)


def role_environment(stack: Stack, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the roles: ours, with the stack's addresses, secret and application in it."""
    return {
        "LOG_FORMAT": "pretty" if is_terminal() else "json",
        **environ,
        "DATABASE_URL": stack.database_url,
        "OUTBOXKIT_APP": stack.app,
        "JOB_TRIGGER_MODE": stack.mode,
        "WORKER_TRIGGER_URL": f"{stack.worker}/process-job",
        "WORKER_TRIGGER_SECRET": stack.secret,
        "PYTHONUNBUFFERED": "1",
        **google_environment(stack.google),
    }


def google_environment(google: LocalGoogle | None) -> dict[str, str]:
    """Return what makes relay and worker use the local Cloud Tasks: tasks with an identity, which the worker checks."""
    if google is None:
        return {}
    with needs_extra("dev,cloud-tasks"):
        from outboxkit_cli.cloud_tasks.environment import environment
    return environment(tasks=google.tasks, issuer=google.issuer)


async def ready(stack: Stack, *, relay: int) -> None:
    """Wait until web and worker say that they are ready and the relay has shown a sign of life."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.gather(
                answers_ok(stack.web, "/health/ready"),
                answers_ok(stack.worker, "/health/ready"),
                relay_is_seen(relay, database_url=stack.database_url),
            )
    except TimeoutError:
        raise NotReady(f"not everything was ready after {READY_SECONDS:g} s") from None


async def answers_ok(url: str, path: str) -> None:
    """Wait until GET is answered with 200."""
    with needs_extra("dev"):
        import httpx
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while True:
            try:
                if (await client.get(path)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(READY_POLL_SECONDS)


async def relay_is_seen(pid: int, *, database_url: str) -> None:
    """Wait until the relay, which has no port, has written that it is alive."""
    import psycopg  # of the extra cli

    alive = "select exists (select from outboxkit.processes where role = 'relay' and pid = %s)"
    async with await psycopg.AsyncConnection.connect(conninfo(database_url), autocommit=True) as connection:
        while True:
            row = await (await connection.execute(alive, [pid])).fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(READY_POLL_SECONDS)
