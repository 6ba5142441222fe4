"""W3C trace context, as far as the kit carries it: https://www.w3.org/TR/trace-context/#traceparent-header."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

# Set by a role around a request or a job; enqueue hands it on, so that one id follows the work through every process.
current: ContextVar[str | None] = ContextVar("outboxkit_traceparent", default=None)

_FORM = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def parse(value: str | None) -> str | None:
    """The traceparent if it is well formed (and not of the forbidden version ff), else None."""
    if value is None or not _FORM.fullmatch(value) or value.startswith("ff"):
        return None
    return value


def new() -> str:
    """A fresh traceparent, not sampled: its ids tie log lines together even where nobody records spans."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
