"""Why requests were refused, for the log."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

log = logging.getLogger(__name__)

LINES: Final = 20
PERIOD: Final = 60.0
"""Whoever knocks all day must not fill the log: at most LINES lines in so many seconds."""

CHARACTERS: Final = 200


class Refusals:
    """Logs them, a bounded number of lines of bounded length; what is left out is counted."""

    def __init__(self) -> None:
        self._since = -PERIOD
        self._lines = 0
        self._left_out = 0

    def note(self, why: str, /, **seen: object) -> None:
        """Log one refusal. `seen` comes from outside: it is cut, and what does not print becomes a blank."""
        now = monotonic()
        if now - self._since >= PERIOD:
            if self._left_out:
                log.warning("%d more triggers were refused, and not logged", self._left_out)
            self._since, self._lines, self._left_out = now, 0, 0
        if self._lines >= LINES:
            self._left_out += 1
            return
        self._lines += 1
        log.warning(
            "Refused trigger: %s", why, extra={f"token_{name}": printable(value) for name, value in seen.items()}
        )


def printable(value: object, limit: int = CHARACTERS) -> str:
    """Text from outside, fit for one line of a log."""
    text = str(value)[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
