"""The roles as real processes that can be killed and started again."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


def free_port() -> int:
    """A port nobody listens on now. The tests' own processes take it at once, and again after every kill."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One role, started anew after every kill with the same settings."""

    def __init__(self, name: str, role: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._argv = [sys.executable, "-m", "outboxkit_cli", role]
        self._environment = {**os.environ, "PYTHONPATH": str(HERE), "LOG_FORMAT": "json", **environment}
        self._log = log
        self._popen: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self) -> None:
        """Start it; does nothing while it runs."""
        if self._popen is None or self._popen.poll() is not None:
            with self._log.open("ab") as log:
                self._popen = subprocess.Popen(self._argv, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL: no handler, no goodbye."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGKILL)
        self._popen.wait()
        self.kills += 1

    def stop(self) -> None:
        """An orderly stop, and a kill if it takes too long."""
        if self._popen is None:
            return
        self._popen.terminate()
        try:
            self._popen.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


class Fleet:
    """One web, two relays, two workers; each relay triggers its own worker."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.web_port = free_port()
        self.effects = folder / "effects.log"
        self.effects.touch()
        self.log = folder / "processes.log"
        common = {
            "DATABASE_URL": database_url,
            "OUTBOXKIT_APP": "orders",
            "JOB_TRIGGER_MODE": "http",
            "WORKER_TRIGGER_SECRET": "chaos",
            "CHAOS_EFFECTS": str(self.effects),
            "HOST": "127.0.0.1",
            "JOB_LEASE_SECONDS": "3",
            "SWEEP_INTERVAL_SECONDS": "0.5",
            "RELAY_DELIVERY_TIMEOUT_SECONDS": "2",
            "RELAY_LEASE_SECONDS": "4",
        }
        self.processes = [Process("web", "web", {**common, "PORT": str(self.web_port)}, self.log)]
        for name in ("a", "b"):
            port = str(free_port())
            url = f"http://127.0.0.1:{port}/process-job"
            self.processes += [
                Process(f"relay {name}", "relay", {**common, "WORKER_TRIGGER_URL": url}, self.log),
                Process(f"worker {name}", "worker", {**common, "PORT": port}, self.log),
            ]

    def victims(self, seed: int) -> Iterator[Process]:
        """Processes to kill: all of them again and again, each time in another order that the seed decides."""
        chance = random.Random(seed)
        while True:
            yield from chance.sample(self.processes, len(self.processes))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start all; stop all in the end, whatever happened."""
        try:
            for process in self.processes:
                process.start()
            yield
        finally:
            for process in self.processes:
                process.stop()
