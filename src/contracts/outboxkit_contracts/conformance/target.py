"""What a conformance run is pointed at, and how far it goes."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from outboxkit_contracts.conformance.jobs import Jobs, NoJobs
from outboxkit_contracts.validation import PROCESS_JOB

DEADLINE: Final = 10.0
EXAMPLES: Final = 100


class Level(enum.StrEnum):
    """How much is checked."""

    BASIC = "basic"
    """What one request after another shows, in a second or two; needs quick jobs at most."""

    FULL = "full"
    """Also jobs in every state, concurrency, raw sockets, slow clients and generated requests: half a minute."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, wherever it runs, and what is needed to check it.

    `url` is the worker's address, with or without `/process-job`. `secret` is what it expects in `x-worker-trigger`; None
    when it checks no secret. `headers` go with every request, for a gateway on the way. `deadline` in seconds is the
    longest that any answer may take. `slots` is how many jobs the worker runs at once, if it is to be filled up.
    `examples` is how many requests are generated for each operation. Its repr holds no secret.
    """

    url: str
    secret: str | None = None
    jobs: Jobs = msgspec.field(default_factory=NoJobs)
    headers: tuple[tuple[str, str], ...] = ()
    deadline: float = DEADLINE
    slots: int | None = None
    examples: int = EXAMPLES

    @property
    def base(self) -> str:
        """The address without the path, and without a slash at its end."""
        return self.url.rstrip("/").removesuffix(PROCESS_JOB).rstrip("/")

    @property
    def secrets(self) -> tuple[tuple[str, str], ...]:
        """Values that no report may show, and the shell variables that stand for them."""
        headers = [(value, name.upper().replace("-", "_")) for name, value in self.headers]
        return (*([(self.secret, "WORKER_TRIGGER_SECRET")] if self.secret else []), *headers)

    def __repr__(self) -> str:
        return f"Target({self.base})"
