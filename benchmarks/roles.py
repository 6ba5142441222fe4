"""The processes that are measured: relay, worker and sink, each with its defaults."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.interruption import cancelled_by_signals
from outboxkit_cli.sockets import address, listening_socket
from outboxkit_cli.stack import answers_ok, relay_is_seen
from outboxkit_cli.supervisor import Program, Supervisor
from outboxkit_cli.terminal import discard

REPOSITORY = Path(__file__).resolve().parent.parent
APPLICATION = "benchmarks.application"
# What the relay sends with each trigger: the floor sends the same.
SECRET = secrets.token_urlsafe(24)

POLL_SECONDS = 0.01
LONGEST_SECONDS = 60.0


class Stuck(CommandFailed):
    """A measurement does not come to its end."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A running role; `url` is where it listens, if it does."""

    pid: int
    url: str = ""


class Roles:
    """Starts roles; whoever opened it stops them all."""

    def __init__(self, supervisor: Supervisor, *, log_level: str, profiles: Path | None) -> None:
        self._supervisor = supervisor
        self._log_level = log_level
        self._profiles = profiles

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Return when the condition holds.

        Raises ChildDied when a role ends meanwhile, and Stuck after a minute, because then something is broken, not slow.
        """
        try:
            await self._supervisor.alongside(holds(condition))
        except TimeoutError:
            message = f"not done after {LONGEST_SECONDS:g} s; the roles' last lines:\n{self._supervisor.tails()}"
            raise Stuck(message) from None

    async def sink(self) -> Process:
        """A sink, listening."""
        with listening_socket() as listener:
            descriptor = listener.fileno()
            argv = [sys.executable, "-m", "benchmarks.sink", str(descriptor)]
            pid = await self._start("sink", argv, {}, [descriptor])
            return Process(pid=pid, url=f"{address(listener)}/process-job")

    async def worker(self, *, database_url: str, mode: str) -> Process:
        """A worker, ready."""
        with listening_socket() as listener:
            descriptor, url = listener.fileno(), address(listener)
            argv = self._command(["worker", "--fd", str(descriptor)], profile=f"worker-{mode}")
            settings = {"DATABASE_URL": database_url, "JOB_TRIGGER_MODE": mode, "OUTBOXKIT_APP": APPLICATION}
            pid = await self._start("worker", argv, settings, [descriptor])
        await self._supervisor.alongside(answers_ok(url, "/health/ready"))
        return Process(pid=pid, url=f"{url}/process-job")

    async def relay(self, *, database_url: str, target: str) -> Process:
        """A relay in http mode, alive."""
        settings = {"DATABASE_URL": database_url, "JOB_TRIGGER_MODE": "http", "WORKER_TRIGGER_URL": target}
        pid = await self._start("relay", self._command(["relay"], profile="relay"), settings, [])
        await self._supervisor.alongside(relay_is_seen(pid, database_url=database_url))
        return Process(pid=pid)

    def _command(self, arguments: Sequence[str], *, profile: str) -> list[str]:
        if self._profiles is None:
            return [sys.executable, "-m", "outboxkit_cli", *arguments]
        return [sys.executable, "-m", "benchmarks.profiled", str(self._profiles / f"{profile}.pstats"), *arguments]

    async def _start(
        self, name: str, argv: Sequence[str], settings: Mapping[str, str], descriptors: Sequence[int]
    ) -> int:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
            "LOG_FORMAT": "json",
            "LOG_LEVEL": self._log_level,
            "WORKER_TRIGGER_SECRET": SECRET,
            **settings,
        }
        program = Program(name=name, argv=argv, environment=environment, descriptors=descriptors)
        return (await self._supervisor.start(program)).process.pid


async def holds(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when the condition holds; TimeoutError when it does not within a minute."""
    async with asyncio.timeout(LONGEST_SECONDS):
        while not await condition():  # noqa: ASYNC110 (it is in the database, which sends no event)
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def roles(*, log_level: str, profiles: Path | None) -> AsyncIterator[Roles]:
    """Roles that are stopped at the end, however it comes: Ctrl-C too."""
    with cancelled_by_signals() as hurry:
        async with Supervisor(write=discard, hurry=hurry) as supervisor:
            yield Roles(supervisor, log_level=log_level, profiles=profiles)
