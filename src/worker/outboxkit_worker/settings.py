"""What the worker reads from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from outboxkit.modes import Mode
from outboxkit.settings import (
    CHECKED_LATER,
    DatabaseListenUrl,
    JobTriggerMode,
    RetentionDays,
    Secret,
    ShutdownGrace,
    StrandedAfter,
    StrandedMax,
    SweepInterval,
    Variable,
    WorkerOidcAudience,
    WorkerTriggerSecret,
    choice,
    database_url,
    default_audience,
    http_url,
    milliseconds,
    seconds,
    secret,
    whole,
)

GOOGLE: Final = "https://accounts.google.com"

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def accounts(text: str) -> tuple[str, ...]:
    """Reads e-mail addresses with commas between them."""
    found = tuple(part for part in (part.strip() for part in text.split(",")) if part)
    wrong = [part for part in found if not (_EMAIL.fullmatch(part) and part.isprintable())]
    if wrong or not found:
        raise ValueError(f"{', '.join(map(repr, wrong)) or repr(text)} is no e-mail address")
    return found


def issuer(text: str) -> str:
    """Reads an OpenID issuer: an https URL; http is for one on this machine."""
    parts = urlsplit(http_url(text))
    if parts.query or parts.fragment:
        raise ValueError(f"{text!r} has a query or a fragment")
    if not is_trustworthy(text, loopback=True):
        raise ValueError(f"{text!r} is no https URL")
    return text


def is_trustworthy(url: str, *, loopback: bool) -> bool:
    """Whether what is read there comes from whom the URL names: by https, or by http without leaving this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return bool(host)
        return loopback and parts.scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False


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
    oidc_accounts: Annotated[
        tuple[str, ...] | None,
        Variable(
            "WORKER_OIDC_SERVICE_ACCOUNTS",
            "Whose identity tokens let triggers in: e-mail addresses, with commas. Setting it turns the check on.",
            "tasks@my-project.iam.gserviceaccount.com",
            accounts,
        ),
    ] = None
    oidc_audience: WorkerOidcAudience = None
    trigger_url: Annotated[
        str | None,
        Variable(
            "WORKER_TRIGGER_URL",
            "This worker's URL; only read to know the default of WORKER_OIDC_AUDIENCE.",
            "https://worker-abcdefghij-ew.a.run.app",
            http_url,
            check=CHECKED_LATER,
        ),
    ] = None
    oidc_issuer: Annotated[
        str,
        Variable(
            "WORKER_OIDC_ISSUER",
            "Who issues the tokens; its keys are found by OpenID discovery. https; http on this machine only.",
            GOOGLE,
            issuer,
        ),
    ] = GOOGLE
    authentication: Annotated[
        str,
        Variable(
            "WORKER_AUTHENTICATION",
            "Where a secret and WORKER_OIDC_SERVICE_ACCOUNTS are set: any, either lets in; all, both are needed.",
            "all",
            choice("any", "all"),
        ),
    ] = "any"
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
    malformed: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Problems with variables that work can flow without, by variable name; the worker is not ready then."""

    def __post_init__(self) -> None:
        """Find values that are at odds with one another; ValueError has a line for each."""
        problems: list[str] = []
        if self.oidc_accounts and self.audience is None:
            problems += filter(None, [self.malformed.get("WORKER_TRIGGER_URL")])
            problems.append(
                "WORKER_OIDC_AUDIENCE is not set, nor WORKER_TRIGGER_URL, and WORKER_OIDC_SERVICE_ACCOUNTS needs one of "
                "them: a token is for one audience. For example WORKER_OIDC_AUDIENCE=https://worker-abcdefghij-ew.a.run.app"
            )
        if self.authentication == "all" and not (self.secrets or self.oidc_accounts):
            problems.append(
                "WORKER_AUTHENTICATION is all, and nothing is set that it could ask for: set WORKER_TRIGGER_SECRET, "
                "WORKER_OIDC_SERVICE_ACCOUNTS, or both"
            )
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def audience(self) -> str | None:
        """Whom a token must be meant for."""
        if self.oidc_audience is None and self.trigger_url is not None:
            return default_audience(self.trigger_url)
        return self.oidc_audience

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Every secret that is valid now."""
        return tuple(s for s in (self.secret, self.previous_secret) if s is not None)

    @property
    def listen_url(self) -> Secret | None:
        """Where LISTEN is done."""
        return self.database_listen_url or self.database_url
