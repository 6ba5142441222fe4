"""How a check ends when it does not simply pass."""

from __future__ import annotations

from outboxkit_contracts.conformance.exchanges import Exchange


class Failed(Exception):  # noqa: N818 (an outcome)
    """The worker does not keep the document; the message says what was expected and what came.

    `exchange` is the request that shows it; None when it is the last one that was sent. `command` reproduces what no
    curl line can.
    """

    def __init__(self, message: str, exchange: Exchange | None = None, command: str | None = None) -> None:
        super().__init__(message)
        self.exchange = exchange
        self.command = command


class Skipped(Exception):  # noqa: N818 (an outcome)
    """The check could not be made; the message says what it needs."""
