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
class Stack:
    """Where everything is once it runs."""

    app: str
    mode: str
    database_url: str
    web: str
    worker: str
    secret: str


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

    `port` is the web's (0: a free one). Raises ChildDied when one of them ends before it is ready, NotReady
    when that takes longer than 30 s, and CommandFailed when the port is taken.
    """
    with listening_socket(port=port) as web, listening_socket() as worker:
        stack = Stack(
            app=app,
            mode=mode,
            database_url=database_url,
            web=address(web),
            worker=address(worker),
            secret=secrets.token_urlsafe(SECRET_BYTES),
        )
        children = {p.name: await supervisor.start(p) for p in programs(stack, web=web, worker=worker)}
    # Our own copies of the sockets are closed now: when a role dies, its port refuses connections.
    await supervisor.alongside(ready(stack, relay=children["relay"].process.pid))
    yield stack


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
    yield Program(name="relay", argv=[sys.executable, "-m", "outboxkit_cli", "relay"], environment=environment)


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
    }


async def ready(stack: Stack, *, relay: int) -> None:
    """Wait until web and worker say that they are ready and the relay has shown a sign of life."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.gather(
                answers_ready(stack.web),
                answers_ready(stack.worker),
                relay_is_seen(relay, database_url=stack.database_url),
            )
    except TimeoutError:
        raise NotReady(f"not everything was ready after {READY_SECONDS:g} s") from None


async def answers_ready(url: str) -> None:
    """Wait until GET /health/ready is answered with 200."""
    with needs_extra("dev"):
        import httpx
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while True:
            try:
                if (await client.get("/health/ready")).status_code == httpx.codes.OK:
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
