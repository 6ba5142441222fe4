"""What the relay reads from the environment. It alone judges how triggers are transported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from outboxkit.modes import Mode
from outboxkit.settings import (
    DatabaseListenUrl,
    DatabaseUrl,
    JobTriggerMode,
    RetentionDays,
    Secret,
    ShutdownGrace,
    StrandedAfter,
    StrandedMax,
    SweepInterval,
    Variable,
    WorkerTriggerSecret,
    http_url,
    seconds,
    whole,
)
from outboxkit.sweeps import SweepLimits

PROCESS_JOB: Final = "/process-job"

# What a delivery may take on top of the wait it asks for, and a lease on top of a delivery: time for the answer to travel,
# and for a row to stand in line and be settled.
DELIVERY_MARGIN: Final = 15.0
LEASE_MARGIN: Final = 5.0


def read_worker_url(text: str) -> str:
    """Reads a worker's URL; without a path it gets the protocol's, /process-job."""
    parts = urlsplit(http_url(text))
    if parts.fragment:
        raise ValueError(f"{text!r} has a fragment (#{parts.fragment}), which is never sent")
    return urlunsplit(parts._replace(path=PROCESS_JOB)) if parts.path in {"", "/"} else text


def read_routes(text: str) -> Mapping[str, str]:
    """Reads a JSON object of queue → worker URL."""
    try:
        found = msgspec.json.decode(text, type=dict[str, str])
    except ValueError as error:
        raise ValueError(f"not a JSON object of queue and URL: {error}") from None
    return {queue: read_worker_url(url) for queue, url in found.items()}


def positive(maximum: float) -> Callable[[str], float]:
    """Reads a number above zero, up to `maximum`."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
        if not 0 < number <= maximum:
            raise ValueError(f"{text} is not above 0 and at most {maximum:g}")
        return number

    return read


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The relay's settings. Durations are in seconds unless they are timedeltas.

    A mode without its variables is no error here: the relay starts, says what is missing, and triggers wait for pollers.
    """

    database_url: DatabaseUrl
    database_listen_url: DatabaseListenUrl = None
    mode: JobTriggerMode = Mode.DB
    url: Annotated[
        str | None,
        Variable(
            "WORKER_TRIGGER_URL",
            "Where triggers are posted in http mode; /process-job is added when it has no path.",
            "https://worker.internal",
            read_worker_url,
        ),
    ] = None
    secret: WorkerTriggerSecret = None
    routes: Annotated[
        Mapping[str, str],
        Variable(
            "TRIGGER_ROUTES",
            "Queues with a worker of their own: a JSON object of queue and URL.",
            '{"reports": "https://reports.internal"}',
            read_routes,
        ),
    ] = msgspec.field(default_factory=dict)
    wait: Annotated[
        int,
        Variable(
            "TRIGGER_WAIT_SECONDS",
            "How long the worker is asked to wait for the job's end before it answers (Prefer: wait).",
            "0",
            whole(0, 3600),
        ),
    ] = 0
    concurrency: Annotated[
        int,
        Variable("RELAY_CONCURRENCY", "Deliveries in flight at once, for each worker URL.", "128", whole(1, 10000)),
    ] = 128
    delivery_timeout: Annotated[
        float | None,
        Variable(
            "RELAY_DELIVERY_TIMEOUT_SECONDS",
            "How long a delivery may take; by default TRIGGER_WAIT_SECONDS and 15 more.",
            "15",
            seconds(0.05, 7200),
        ),
    ] = None
    lease_seconds: Annotated[
        float | None,
        Variable(
            "RELAY_LEASE_SECONDS",
            "How long a claimed trigger is a relay's own; by default the delivery timeout and 30 more.",
            "45",
            seconds(0.05, 14400),
        ),
    ] = None
    poll: Annotated[
        float,
        Variable(
            "RELAY_POLL_SECONDS", "How often the outbox and the mode are looked at unasked.", "1", seconds(0.05, 3600)
        ),
    ] = 1.0
    max_attempts: Annotated[
        int,
        Variable(
            "RELAY_MAX_ATTEMPTS", "Failures of one trigger that count before its dead letter.", "20", whole(1, 1000)
        ),
    ] = 20
    backoff_base: Annotated[
        float,
        Variable(
            "RELAY_BACKOFF_BASE",
            "The longest wait before a trigger's first retry, in seconds; doubles with each failure that counts.",
            "1",
            seconds(0.001, 3600),
        ),
    ] = 1.0
    backoff_max: Annotated[
        float,
        Variable("RELAY_BACKOFF_MAX", "The longest wait before any retry, in seconds.", "600", seconds(0.001, 86400)),
    ] = 600.0
    rate_limit: Annotated[
        float | None,
        Variable("RELAY_RATE_LIMIT", "Triggers a second at most; unlimited when not set.", "500", positive(1e6)),
    ] = None
    max_age: Annotated[
        float | None,
        Variable(
            "RELAY_MAX_AGE",
            "A trigger that could not be delivered within so many seconds gets a dead letter; off when not set.",
            "86400",
            seconds(0.05, 31536000),
        ),
    ] = None
    breaker_faults: Annotated[
        int,
        Variable(
            "RELAY_BREAKER_FAULTS", "Endpoint faults in a row that stop sending to a worker URL.", "5", whole(1, 1000)
        ),
    ] = 5
    probe_base: Annotated[
        float,
        Variable(
            "RELAY_PROBE_BASE_SECONDS",
            "The wait before the first probe of a worker URL that failed; doubles with each.",
            "0.5",
            seconds(0.001, 3600),
        ),
    ] = 0.5
    probe_max: Annotated[
        float,
        Variable("RELAY_PROBE_MAX_SECONDS", "The longest wait between two probes.", "30", seconds(0.001, 86400)),
    ] = 30.0
    grace: ShutdownGrace = 8.0
    sweep_interval: SweepInterval = 5.0
    stranded_after: StrandedAfter = 300.0
    stranded_max: StrandedMax = 5
    retention: RetentionDays = timedelta(days=14)

    def __post_init__(self) -> None:
        """Find values that are at odds with one another; ValueError has a line for each."""
        problems = []
        if self.deadline <= self.wait:
            problems.append(
                f"RELAY_DELIVERY_TIMEOUT_SECONDS: {self.deadline:g} s is not longer than "
                f"TRIGGER_WAIT_SECONDS ({self.wait} s): every delivery that waits would time out"
            )
        if self.lease < self.deadline + self.lease_margin:
            problems.append(
                f"RELAY_LEASE_SECONDS: {self.lease:g} s does not outlast a delivery of {self.deadline:g} s "
                f"(RELAY_DELIVERY_TIMEOUT_SECONDS) by {self.lease_margin:g} s: triggers would be sent twice"
            )
        for low, high, names in (
            (self.backoff_base, self.backoff_max, "RELAY_BACKOFF_MAX: {} s is below RELAY_BACKOFF_BASE"),
            (self.probe_base, self.probe_max, "RELAY_PROBE_MAX_SECONDS: {} s is below RELAY_PROBE_BASE_SECONDS"),
        ):
            if high < low:
                problems.append(names.format(f"{high:g}") + f" ({low:g} s)")
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def deadline(self) -> float:
        """Seconds a delivery may take."""
        return self.delivery_timeout if self.delivery_timeout is not None else self.wait + DELIVERY_MARGIN

    @property
    def lease_margin(self) -> float:
        """Seconds by which the lease must outlast a delivery: for standing in line, and for settlement."""
        return min(LEASE_MARGIN, self.deadline)

    @property
    def lease(self) -> float:
        """Seconds a claimed trigger is this relay's own."""
        return self.lease_seconds if self.lease_seconds is not None else self.deadline + 2 * DELIVERY_MARGIN

    @property
    def listen_url(self) -> Secret:
        """Where LISTEN is done."""
        return self.database_listen_url or self.database_url

    @property
    def sweep_limits(self) -> SweepLimits:
        """How long things may take before a sweep steps in."""
        return SweepLimits(
            stranded_after=timedelta(seconds=self.stranded_after),
            stranded_max=self.stranded_max,
            keep_finished=self.retention,
        )

    def missing(self, mode: Mode) -> list[str]:
        """What keeps this relay from working in `mode`, a line for each variable; empty when nothing does."""
        if mode is Mode.HTTP and self.url is None:
            return ["WORKER_TRIGGER_URL is not set: in http mode it says where triggers are posted"]
        if mode is Mode.CLOUD_TASKS:
            return ["JOB_TRIGGER_MODE=cloud-tasks is not available in this version: use http or db"]
        return []

    def warnings(self) -> list[str]:
        """What is allowed, and probably not what was meant."""
        found = [
            f"{name}: the path {urlsplit(url).path} is not {PROCESS_JOB}, where the worker protocol lives"
            for name, url in (("WORKER_TRIGGER_URL", self.url), *(("TRIGGER_ROUTES", u) for u in self.routes.values()))
            if url is not None and urlsplit(url).path != PROCESS_JOB
        ]
        if self.mode is Mode.HTTP and self.secret is None:
            found.append("WORKER_TRIGGER_SECRET is not set: triggers are sent without credentials")
        return found
