"""What this worker can do: a handler for each kind of job."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from threading import Event
from typing import NamedTuple


class Reject(Exception):  # noqa: N818 (an instruction, not a mistake)
    """Raised by a handler: trying again is no use. Anything else that it raises is tried again."""


class Stopped(Exception):  # noqa: N818
    """Raised by a handler that was told to stop and did."""


class Handler(NamedTuple):
    """`function(payload, stopped)` takes and returns JSON text ("": no result), and ends soon once `stopped` is set."""

    function: Callable[[str, Event], str]
    max_attempts: int = 3
    timeout: float = 600.0
    """Seconds. The lease is not extended any longer, so a handler that hangs loses it."""


def echo(payload: str, stopped: Event) -> str:  # noqa: ARG001 (over before anybody can stop it)
    """Return the payload."""
    return payload


def sleep(payload: str, stopped: Event) -> str:
    """Take so many seconds."""
    try:
        seconds = float(json.loads(payload)["seconds"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= 3600:
        raise Reject('the payload is not {"seconds": 0…3600}')
    if stopped.wait(seconds):
        raise Stopped
    return ""


def fail(payload: str, stopped: Event) -> str:  # noqa: ARG001
    """Fail the attempt."""
    raise RuntimeError("this kind of job fails")


def reject(payload: str, stopped: Event) -> str:  # noqa: ARG001
    """Fail the job."""
    raise Reject("this kind of job is no use")


HANDLERS = {
    "ECHO": Handler(echo),
    "SLEEP": Handler(sleep),
    "FAIL": Handler(fail),
    "REJECT": Handler(reject),
}
