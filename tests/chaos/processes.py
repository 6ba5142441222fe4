"""The roles as real processes that die, freeze and come back, and the links between them, which can be broken."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

from chaos import google_role
from chaos.console import Console
from chaos.points import FOLDER, Points
from chaos.proxy import Proxy
from chaos.role import CLOCK
from outboxkit_cli.privileges import tied_to_parent

Link = Callable[[str, Path | tuple[str, int]], Awaitable[int]]

TESTS = Path(__file__).parents[1]

# Seconds. The leases are short, so that a run sees many of them end; the handlers of kind SLOW outlast one.
LEASE = 2.0
SWEEP = 0.4
RELAY_LEASE = 3.0
DELIVERY = 1.5
# What was handed to Cloud Tasks is asked for after so long, then twice as long …
STRANDED = 1.0

SETTINGS: Mapping[str, str] = {
    "OUTBOXKIT_APP": "chaos.orders",
    "JOB_TRIGGER_MODE": "http",
    "WORKER_TRIGGER_SECRET": "chaos",
    "HOST": "127.0.0.1",
    "LOG_FORMAT": "json",
    "JOB_LEASE_SECONDS": f"{LEASE:g}",
    "JOB_BACKOFF_SECONDS": "0.2",
    "SWEEP_INTERVAL_SECONDS": f"{SWEEP:g}",
    "SHUTDOWN_GRACE_SECONDS": "1",
    "DATABASE_POOL_SIZE": "8",
    "WORKER_CONCURRENCY": "32",
    "WORKER_POLL_INTERVAL_MS": "200",
    "WORKER_SAFETY_POLL_SECONDS": "8",
    "RELAY_POLL_SECONDS": "0.2",
    "RELAY_DELIVERY_TIMEOUT_SECONDS": f"{DELIVERY:g}",
    "RELAY_LEASE_SECONDS": f"{RELAY_LEASE:g}",
    "RELAY_BACKOFF_BASE": "0.2",
    "RELAY_BACKOFF_MAX": "2",
    "RELAY_PROBE_BASE_SECONDS": "0.2",
    "RELAY_PROBE_MAX_SECONDS": "1",
    "CLOUD_TASKS_PROJECT": google_role.PROJECT,
    "CLOUD_TASKS_LOCATION": google_role.LOCATION,
    "CLOUD_TASKS_QUEUE": google_role.QUEUE,
    "CLOUD_TASKS_DISPATCH_DEADLINE": "15",
    "STRANDED_AFTER_SECONDS": f"{STRANDED:g}",
    "WORKER_TASK_SERVICE_ACCOUNT": google_role.ACCOUNT,
    "WORKER_OIDC_SERVICE_ACCOUNTS": google_role.ACCOUNT,
    "WORKER_OIDC_AUDIENCE": "https://worker.chaos",
    # http mode comes with the secret, Cloud Tasks with an identity.
    "WORKER_AUTHENTICATION": "any",
}


class Process:
    """One role, started anew whenever it has ended."""

    def __init__(self, name: str, role: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.role = role
        self.deaths: list[str] = []
        """Ends that nobody asked for, with the status: bugs."""
        self._argv = [sys.executable, "-m", "chaos.role", role]
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(TESTS)]))
        self._environment = {**os.environ, **SETTINGS, **environment, "PYTHONPATH": path}
        self._log = log
        self._popen: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self._shift = 0.0

    @property
    def pid(self) -> int:
        """Its process id, also when it has just ended."""
        assert self._popen is not None
        return self._popen.pid

    def keep(self) -> None:
        """Start it if it has ended and may come back."""
        if self._popen is not None:
            status = self._popen.poll()
            if status is None or monotonic() < self._not_before:
                return
            # Killed (also by itself, at a point or by a poisoned job), told to stop, or told before it could listen.
            if status not in (-signal.SIGKILL, 0, -signal.SIGTERM):
                self.deaths.append(f"{self.name} ended by itself with status {status}")
        environment = {**self._environment, CLOCK: str(self._shift)}
        with self._log.open("ab") as log:
            # Whatever becomes of the chaos program, its processes do not outlive it.
            argv = tied_to_parent(self._argv, parent=os.getpid())
            self._popen = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)

    def kill(self, *, down: float) -> None:
        """SIGKILL: no handler, no goodbye. It comes back after so many seconds."""
        self._not_before = monotonic() + down
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: an orderly stop. It comes back at once."""
        self._send(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: it does nothing, and its connections stay."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it froze, and knows nothing of the time between."""
        self._send(signal.SIGCONT)

    def shift_clock(self, seconds: float) -> None:
        """Start it anew with a wall clock that is so many seconds off."""
        self._shift = seconds
        self.kill(down=0.0)

    def stop(self) -> None:
        """An orderly stop, and a kill if that takes too long."""
        if self._popen is None:
            return
        self.thaw()
        self.terminate()
        try:
            self._popen.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.deaths.append(f"{self.name} did not stop within 10 s")
            self._popen.kill()
            self._popen.wait()

    def _send(self, number: signal.Signals) -> None:
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)


class Fleet:
    """One web, two relays, two workers, each with a login and a link of its own to Postgres; and one Cloud Tasks.

    Each relay has its worker, and a link to Cloud Tasks. That calls the worker over the same link as the relay does.
    """

    def __init__(self, folder: Path, *, log: Path) -> None:
        self._folder = folder
        self.points = Points(folder / "points")
        self.effects = folder / "effects.log"
        self.effects.touch()
        self.log = log
        self.processes: list[Process] = []
        self.links: dict[str, Proxy] = {}
        self.web_port = 0
        self._google = folder / "google"
        self._google.mkdir()
        self._google_ports = free_port(), free_port()
        grpc_port, http_port = self._google_ports
        self.console = Console(grpc_port=grpc_port, http_port=http_port, notes=self._google / "notes")

    def of(self, role: str) -> list[Process]:
        """The processes of one role."""
        return [process for process in self.processes if process.role == role]

    def named(self, name: str) -> Process:
        """One process."""
        return next(process for process in self.processes if process.name == name)

    def by_pid(self, pid: int) -> Process:
        """The process that has, or had last, this id."""
        return next(process for process in self.processes if process.pid == pid)

    @asynccontextmanager
    async def running(self, postgres: Path, *, seed: int) -> AsyncIterator[None]:
        """Start all on the Postgres behind this Unix socket, keep them running, and stop all in the end."""
        async with AsyncExitStack() as stack:

            async def link(name: str, upstream: Path | tuple[str, int]) -> int:
                self.links[name] = await stack.enter_async_context(Proxy(upstream, name=name, seed=seed))
                return self.links[name].port

            self._add_google()
            grpc_port, http_port = self._google_ports
            self.web_port = free_port()
            await self._add(link, postgres, "web", "web", PORT=str(self.web_port))
            for letter in ("a", "b"):
                port = free_port()
                behind = await link(f"relay {letter} to worker {letter}", ("127.0.0.1", port))
                google = await link(f"relay {letter} to Cloud Tasks", ("127.0.0.1", grpc_port))
                urls = {
                    "WORKER_TRIGGER_URL": f"http://127.0.0.1:{behind}",
                    "CLOUD_TASKS_EMULATOR_HOST": f"127.0.0.1:{google}",
                }
                issuer = f"http://127.0.0.1:{http_port}"
                await self._add(link, postgres, f"relay {letter}", "relay", **urls)
                await self._add(link, postgres, f"worker {letter}", "worker", PORT=str(port), WORKER_OIDC_ISSUER=issuer)
            keeping = asyncio.create_task(self._keep())
            try:
                yield
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
                await asyncio.gather(*(asyncio.to_thread(process.stop) for process in self.processes))

    async def _add(self, link: Link, postgres: Path, name: str, role: str, **environment: str) -> None:
        port = await link(f"{name} to Postgres", postgres)
        login = name.replace(" ", "_")
        environment |= {
            "DATABASE_URL": f"postgresql://{login}@127.0.0.1:{port}/postgres",
            "CHAOS_EFFECTS": str(self.effects),
            FOLDER: str(self._folder / "points"),
        }
        self.processes.append(Process(name, role, environment, self.log))

    def _add_google(self) -> None:
        grpc_port, http_port = self._google_ports
        environment = {
            google_role.GRPC_PORT: str(grpc_port),
            google_role.HTTP_PORT: str(http_port),
            google_role.FOLDER: str(self._google),
        }
        self.processes.append(Process("Cloud Tasks", "google", environment, self.log))

    async def _keep(self) -> None:
        while True:
            for process in self.processes:
                process.keep()
            await asyncio.sleep(0.05)


def free_port() -> int:
    """A port nobody listens on, outside the range the kernel gives from: it stays free between kills."""
    low, high = ephemeral_ports()
    chance = random.Random()
    while True:
        port = chance.choice([*range(10_000, low), *range(high + 1, 65_000)])
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def ephemeral_ports() -> tuple[int, int]:
    """The range from which the kernel takes ports for connections."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return 49_152, 65_535  # IANA's
    return int(low), int(high)
