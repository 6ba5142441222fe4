"""Header names of the protocol, and parsers for the two headers that carry a time.

The parsers never raise: a header that cannot be understood is treated as absent, because neither is worth
refusing a job for.
"""

import math
import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final

WORKER_TRIGGER: Final = "x-worker-trigger"
"""The shared secret between relay and worker."""

AUTHORIZATION: Final = "authorization"
TRACEPARENT: Final = "traceparent"
PREFER: Final = "prefer"
PREFERENCE_APPLIED: Final = "preference-applied"
RETRY_AFTER: Final = "retry-after"
ALLOW: Final = "allow"
WWW_AUTHENTICATE: Final = "www-authenticate"
CONTENT_TYPE: Final = "content-type"

MAX_RETRY_AFTER: Final = 3600
"""Seconds. A Retry-After further ahead counts as this much, so that no answer can park a row for days."""

_MAX_DELTA: Final = 2**31
_HTTP_DATE: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [1-9][0-9]{3} [0-9:]{8} GMT"
    r"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9:]{8} GMT"
    r"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [0-9 ][0-9] [0-9:]{8} [1-9][0-9]{3}"
)
_BLANKS: Final = " \t"


def media_type(content_type: str) -> str:
    """What a Content-Type header names, in lower case and without its parameters; "" when it is empty."""
    return content_type.partition(";")[0].strip().lower()


def names(content_type: str | None, expected: str) -> bool:
    """Whether a Content-Type header, or its absence, names this media type, whatever its case and parameters."""
    # As it is nearly always written, it is not taken apart: this is on the relay's hot path.
    return content_type == expected or (content_type is not None and media_type(content_type) == expected)


def parse_prefer_wait(value: str | None) -> int | None:
    """Seconds of the preference `wait` in a Prefer header (RFC 7240), or None when it has none.

    `value` is the header, several of them joined by commas. Of several `wait` preferences the first that
    holds a whole number counts. The number is not capped here (beyond 2³¹, RFC 9111 §1.2.2): the caller
    knows its limit.
    """
    if value is None:
        return None
    for preference in _split(value, ","):
        name, _, word = next(_split(preference, ";")).partition("=")
        if name.strip(_BLANKS).lower() == "wait":
            seconds = _delta_seconds(_unquote(word.strip(_BLANKS)))
            if seconds is not None:
                return seconds
    return None


def parse_retry_after(value: str | None, *, now: float | None = None) -> int | None:
    """Seconds to wait by a Retry-After header (RFC 9110 §10.2.3), or None when it names none.

    Both forms are understood: a number of seconds, and an HTTP date in its three spellings. A date is
    measured from `now` (seconds since 1970, this process's clock by default) and rounded up. The result lies
    between 0 (also for a date in the past) and `MAX_RETRY_AFTER`.
    """
    if value is None:
        return None
    text = value.strip(_BLANKS)
    seconds = _delta_seconds(text)
    if seconds is None:
        seconds = _seconds_until(text, now)
    return None if seconds is None else min(max(seconds, 0), MAX_RETRY_AFTER)


def _seconds_until(text: str, now: float | None) -> int | None:
    if not _HTTP_DATE.fullmatch(text):
        return None
    try:
        date = parsedate_to_datetime(text if text.endswith("GMT") else f"{text} GMT")
        return math.ceil(date.timestamp() - (time.time() if now is None else now))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _delta_seconds(text: str) -> int | None:
    """A whole number in ASCII digits; what does not fit 31 bits counts as 2³¹."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return _MAX_DELTA if len(digits) > len(str(_MAX_DELTA)) else min(int(digits), _MAX_DELTA)


def _unquote(word: str) -> str:
    if len(word) >= 2 and word[0] == word[-1] == '"':
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    return word


def _split(value: str, separator: str) -> Iterator[str]:
    """The parts between separators that stand outside quotes, in time linear in the length."""
    start, quoted, escaped = 0, False, False
    for position, character in enumerate(value):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            yield value[start:position]
            start = position + 1
    yield value[start:]
