"""Postgres, a worker and a relay, each in a container, joined by a network of their own."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from secrets import token_urlsafe
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg import sql
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

import postgres_server
from waiting import until

TABLES = "create table effects (job uuid not null); create table gate (opened timestamptz not null)"
# In a hurry, so that what breaks is noticed and mended within seconds.
SETTINGS = {
    "JOB_TRIGGER_MODE": "http",
    "JOB_LEASE_SECONDS": "4",
    "LOG_LEVEL": "debug",
    "RELAY_BACKOFF_BASE": "0.1",
    "RELAY_PROBE_BASE_SECONDS": "0.1",
    "RELAY_PROBE_MAX_SECONDS": "0.5",
    "SHUTDOWN_GRACE_SECONDS": "1",
    "SWEEP_INTERVAL_SECONDS": "0.2",
    "WORKER_SAFETY_POLL_SECONDS": "3600",
    "WORKER_TRIGGER_URL": "http://worker:8080/process-job",
}


class Role:
    """One role's container: nothing but its own memory can be written to, and no port is published."""

    def __init__(self, image: str, network: Network, *, name: str, command: str, environment: dict[str, str]) -> None:
        self._container = DockerContainer(
            image, command=command, env=environment, network=network, network_aliases=[name]
        ).with_kwargs(read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"])

    def __enter__(self) -> Self:
        self._container.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._container.stop()

    @property
    def docker(self) -> Any:
        """The container as the engine sees it now."""
        container = self._container.get_wrapped_container()
        container.reload()
        return container

    def stop(self) -> int:
        """Do what `docker stop` does: SIGTERM, and SIGKILL after 10 s; return the exit status."""
        self.docker.stop(timeout=10)
        return self._container.wait()

    def kill(self) -> None:
        """End it without a warning."""
        self.docker.kill()
        self._container.wait()

    def start(self) -> None:
        """Start it again."""
        self.docker.start()

    def finish(self) -> str:
        """Wait until it has ended by itself, successfully; return what it printed."""
        assert self._container.wait() == 0, self.output()
        return self.output()

    def output(self) -> str:
        """What it has printed so far, over all its starts."""
        return self.docker.logs().decode()


class Deployment:
    """The running system, and the database as a producer and an onlooker see it."""

    def __init__(
        self, *, worker: Role, relay: Role, secrets: Sequence[str], connection: psycopg.Connection[Any]
    ) -> None:
        self.worker = worker
        self.relay = relay
        self.secrets = secrets
        self.connection = connection

    def enqueue(self, kind: str, count: int) -> list[UUID]:
        """Enqueue jobs, as a producer in any language does."""
        statement = "select outboxkit.enqueue_job(%s, jsonb_build_object('n', n)) from generate_series(1, %s) as n"
        return [row[0] for row in self.connection.execute(statement, [kind, count])]

    def column(self, name: str, jobs: list[UUID]) -> list[Any]:
        """One column of these jobs."""
        statement = sql.SQL("select {} from outboxkit.jobs where id = any(%s)").format(sql.Identifier(name))
        return [row[0] for row in self.connection.execute(statement, [jobs])]

    def wait(self, state: str, jobs: list[UUID]) -> None:
        """Wait until all these jobs are in a state."""
        until(lambda: set(self.column("state", jobs)) == {state}, what=f"the jobs to be {state}")

    def open_gate(self) -> None:
        """Let the jobs that wait go on."""
        self.connection.execute("insert into gate values (now())")

    def effects(self) -> list[UUID]:
        """The jobs that took effect, as often as they did."""
        return [row[0] for row in self.connection.execute("select job from effects")]

    def nothing_is_left(self) -> bool:
        """Tell whether there is neither a trigger nor a dead letter."""
        statement = "select exists (select from outboxkit.outbox) or exists (select from outboxkit.dead_letters)"
        return self.connection.execute(statement).fetchone() == (False,)


@contextmanager
def deployed(image: str) -> Iterator[Deployment]:
    """Start everything on an empty, then migrated database."""
    password, secret = token_urlsafe(), token_urlsafe()
    url = f"postgresql://app:{password}@postgres:5432/app"
    environment = {**SETTINGS, "DATABASE_URL": url, "WORKER_TRIGGER_SECRET": secret}
    with ExitStack() as stack:
        network = stack.enter_context(Network())

        def role(name: str, command: str) -> Role:
            return stack.enter_context(Role(image, network, name=name, command=command, environment=environment))

        server = PostgresContainer(
            postgres_server.image(), username="app", password=password, dbname="app", driver=None
        )
        stack.enter_context(server.with_network(network).with_network_aliases("postgres"))
        role("migrate", "outboxkit migrate").finish()
        connection = stack.enter_context(psycopg.connect(server.get_connection_url(), autocommit=True))
        connection.execute(TABLES)
        worker, relay = role("worker", "outboxkit worker"), role("relay", "outboxkit relay")
        try:
            yield Deployment(worker=worker, relay=relay, secrets=[password, secret], connection=connection)
        except BaseException as error:
            for container in (worker, relay):
                error.add_note(container.output())
            raise
