"""What the worker reads from the environment."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import msgspec

from outboxkit.modes import Mode
from outboxkit.settings import (
    DatabaseListenUrl,
    JobTriggerMode,
    RetentionDays,
    Secret,
    ShutdownGrace,
    StrandedAfter,
    StrandedMax,
    SweepInterval,
    Variable,
    WorkerTriggerSecret,
    database_url,
    milliseconds,
    seconds,
    secret,
    whole,
)


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's settings; every one has a default. Durations are in seconds unless they are timedeltas.

    What any process that listens reads besides (PORT, HOST, LOG_LEVEL …) is the command line's.
    """

    database_url: Annotated[
        Secret | None,
        Variable(
            "DATABASE_URL",
            "The Postgres database. Without it the worker starts, takes no job, and is not ready.",
            "postgresql://user:password@db.internal:5432/app",
            database_url,
        ),
    ] = None
    database_listen_url: DatabaseListenUrl = None
    database_pool_size: Annotated[
        int,
        Variable(
            "DATABASE_POOL_SIZE",
            "Handlers that can have a job.session at the same time; the worker itself needs up to 9 connections besides.",
            "10",
            whole(1, 1000),
        ),
    ] = 10
    mode: JobTriggerMode = Mode.DB
    secret: WorkerTriggerSecret = None
    previous_secret: Annotated[
        Secret | None,
        Variable(
            "WORKER_TRIGGER_SECRET_PREVIOUS",
            "The secret that is valid too while the secret is changed.",
            "the old secret",
            secret,
        ),
    ] = None
    concurrency: Annotated[
        int,
        Variable("WORKER_CONCURRENCY", "Jobs that run at the same time; beyond it, 429.", "128", whole(1, 10000)),
    ] = 128
    poll_interval: Annotated[
        float,
        Variable(
            "WORKER_POLL_INTERVAL_MS",
            "How often due jobs are looked for in db mode, in milliseconds.",
            "1000",
            milliseconds(10, 3600000),
        ),
    ] = 1.0
    safety_poll: Annotated[
        float,
        Variable(
            "WORKER_SAFETY_POLL_SECONDS",
            "How often jobs that are overdue by as much are looked for in the modes http and cloud-tasks.",
            "60",
            seconds(0.1, 86400),
        ),
    ] = 60.0
    lease: Annotated[
        float,
        Variable(
            "JOB_LEASE_SECONDS",
            "How long a job stays with a worker that shows no sign of life; it shows one every third of that.",
            "30",
            seconds(1, 1800),
        ),
    ] = 30.0
    backoff: Annotated[
        float,
        Variable(
            "JOB_BACKOFF_SECONDS",
            "The longest wait before the first retry of a job; doubles with each attempt.",
            "5",
            seconds(0, 3600),
        ),
    ] = 5.0
    backoff_max: Annotated[
        float,
        Variable("JOB_BACKOFF_MAX_SECONDS", "The longest wait before any retry of a job.", "900", seconds(0, 86400)),
    ] = 900.0
    wait_max: Annotated[
        float,
        Variable(
            "WORKER_WAIT_MAX_SECONDS",
            "The longest that a request with Prefer: wait is kept waiting for its job.",
            "600",
            seconds(0, 3600),
        ),
    ] = 600.0
    grace: ShutdownGrace = 8.0
    sweep_interval: SweepInterval = 5.0
    stranded_after: StrandedAfter = 300.0
    stranded_max: StrandedMax = 5
    retention: RetentionDays = timedelta(days=14)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Every secret that is valid now."""
        return tuple(s for s in (self.secret, self.previous_secret) if s is not None)

    @property
    def listen_url(self) -> Secret | None:
        """Where LISTEN is done."""
        return self.database_listen_url or self.database_url
