"""What the relay reads from the environment. It alone judges how triggers are transported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final

from outboxkit.settings import (
    DatabaseListenUrl,
    DatabaseUrl,
    RetentionDays,
    Secret,
    ShutdownGrace,
    StrandedAfter,
    StrandedMax,
    SweepInterval,
    Variable,
    seconds,
    whole,
)
from outboxkit.sweeps import SweepLimits
from outboxkit_relay.transport_settings import ANSWER_MARGIN, TransportSettings

# What a delivery may take on top of the wait it asks for, and a lease on top of a delivery: time for the answer to travel,
# and for a row to stand in line and be settled.
DELIVERY_MARGIN: Final = float(ANSWER_MARGIN)
LEASE_MARGIN: Final = 5.0


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


class RelaySettings(TransportSettings, frozen=True, kw_only=True):
    """The relay's settings. Durations are in seconds unless they are timedeltas.

    A mode without its variables is no error here: the relay starts, says what is missing, and triggers wait for pollers.
    """

    database_url: DatabaseUrl
    database_listen_url: DatabaseListenUrl = None
    host: Annotated[str, Variable("HOST", "The address that is listened on.", "127.0.0.1")] = "0.0.0.0"  # noqa: S104 (a container's)
    port: Annotated[
        int | None,
        Variable(
            "PORT", "Where the relay answers /health and /health/ready; nowhere when not set.", "8080", whole(0, 65535)
        ),
    ] = None
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
    def task_deadline(self) -> float:
        """Seconds that creating a task may take: nobody waits for the job here."""
        return self.delivery_timeout if self.delivery_timeout is not None else DELIVERY_MARGIN

    @property
    def task_lease(self) -> float:
        """Seconds a trigger is this relay's own while its task is created."""
        return self.lease_seconds if self.lease_seconds is not None else self.task_deadline + 2 * DELIVERY_MARGIN

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
