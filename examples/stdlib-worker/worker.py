"""A worker of the protocol POST /process-job in Python's standard library and the program psql, with nothing of outboxkit.

    DATABASE_URL=postgresql://… WORKER_TRIGGER_SECRET=… python3 worker.py

A model for one in another language. Read protocol.py first (what is answered, and when), then jobs.py (leases, signs of
life, outcomes), and ../shell/sql for the statements.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from threading import Thread

from database import Database
from handlers import HANDLERS
from http1 import Server
from jobs import Jobs
from protocol import Protocol

MODES = ("db", "http", "cloud-tasks", "none")

log = logging.getLogger("worker")


@dataclass(frozen=True)
class Settings:
    """What comes from the environment, under the kit's own names."""

    database_url: str
    host: str
    port: int
    secrets: tuple[str, ...]
    concurrency: int
    lease: float
    backoff: float
    grace: float
    mode: str

    @classmethod
    def from_environment(cls) -> Settings:
        """Raises ValueError for a number that is none."""
        get = os.environ.get
        secrets = (get("WORKER_TRIGGER_SECRET", ""), get("WORKER_TRIGGER_SECRET_PREVIOUS", ""))
        mode = (get("JOB_TRIGGER_MODE") or "db").lower()
        return cls(
            database_url=get("DATABASE_URL", ""),
            host=get("HOST") or "0.0.0.0",  # noqa: S104 (a container's port is to be reached)
            port=int(get("PORT") or "8080"),
            secrets=tuple(secret for secret in secrets if secret),
            concurrency=int(get("WORKER_CONCURRENCY") or "16"),
            lease=float(get("JOB_LEASE_SECONDS") or "30"),
            backoff=float(get("JOB_BACKOFF_SECONDS") or "5"),
            grace=float(get("SHUTDOWN_GRACE_SECONDS") or "8"),
            mode=mode if mode in MODES else "db",
        )


class Signals:
    """SIGTERM and SIGINT. Each becomes a byte on a socket: a main thread that waits for a lock may never hear of it."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the next signal, at most so many seconds; tell whether it came."""
        ready, _, _ = select.select([self._reading], [], [], seconds)
        return bool(ready and self._reading.recv(1))


class Worker:
    """The parts, wired. A subclass may put others in their place."""

    protocol_class = Protocol
    jobs_class = Jobs
    handlers = HANDLERS

    def __init__(self, settings: Settings) -> None:
        """Listens at once, and answers once `run` is called; connects to no database before it must."""
        self.settings = settings
        self.jobs = self.jobs_class(
            Database(settings.database_url),
            self.handlers,
            concurrency=settings.concurrency,
            lease=settings.lease,
            backoff=settings.backoff,
        )
        self.protocol = self.protocol_class(
            self.jobs, secrets=settings.secrets, mode=settings.mode, has_database=bool(settings.database_url)
        )
        self.server = Server((settings.host, settings.port), self.protocol.answer, self.protocol.refuse)

    def run(self, signals: Signals) -> None:
        """Serve until there is a signal; then refuse triggers, finish what runs or give it back, and return.

        A second signal ends the grace.
        """
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        signals.wait()
        log.info("shutting down: no new jobs, %g s for the running ones", self.settings.grace)
        self.jobs.begin_draining()
        self.jobs.drain(self.settings.grace, in_a_hurry=lambda: signals.wait(0))
        self.server.stop(within=2.0)


def main(worker_class: type[Worker] = Worker) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(f"worker: {error}")
    if not settings.secrets:
        log.warning("WORKER_TRIGGER_SECRET is not set: POST /process-job is open to everybody who can reach it")
    signals = Signals()
    worker = worker_class(settings)
    log.info("worker on port %d for %s", worker.server.server_address[1], ", ".join(worker.handlers))
    worker.run(signals)


if __name__ == "__main__":
    main()
