"""How a trigger reaches a worker.

A transport is a small class behind one method. What it must hold to: it never raises (bar cancellation), it ends within its
deadline, and nothing it says in a reason holds a secret.
"""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec

from outboxkit_contracts.actions import Verdict
from outboxkit_relay.triggers import Trigger


class Custody(enum.Enum):
    """How a transport that delivers later has a trigger that it has acknowledged."""

    TAKEN = "taken"
    """It took this trigger over."""
    WAITING = "waiting"
    """It did not, for it still has the job's earlier trigger, and has never dispatched it."""
    TRIED = "tried"
    """It did not, for it still has the job's earlier trigger, and has dispatched it in vain."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of one delivery: what to do about it, and the HTTP status, if there was an answer.

    `custody` is None where the worker itself has answered.
    """

    verdict: Verdict
    status: int | None = None
    custody: Custody | None = None


class Transport(Protocol):
    """Delivers triggers to one endpoint; used from one event loop."""

    async def deliver(self, trigger: Trigger) -> Outcome:
        """Hand over one trigger. May be cancelled, and then it may or may not have arrived."""
        ...

    async def close(self) -> None:
        """Close connections; nothing is delivered afterwards."""
        ...
