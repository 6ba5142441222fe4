"""What is to become of one outbox row."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from outboxkit_relay.transports import Custody


class Ack(msgspec.Struct, frozen=True):
    """Delivered: the row goes. With a custody the job is to be looked after: nobody has begun it yet."""

    custody: Custody | None = None


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """The row stays, and is due again after `delay` seconds. `counted`: it is one failure nearer its dead letter."""

    delay: float
    counted: bool
    error: str


class Bury(msgspec.Struct, frozen=True, kw_only=True):
    """The row goes, its dead letter is written, and its job fails."""

    reason: str
    error: str
    status: int | None = None
    counted: bool = True


Decision: TypeAlias = Ack | Retry | Bury
