"""The token in a request's Authorization, and what can be the matter with it. Needs nothing but the standard library."""

from __future__ import annotations

import re
from typing import Final

MAX_BYTES: Final = 8192
"""Of the header Authorization; a longer one is refused unread. Google's tokens have about 800 bytes."""

# RFC 6750 §2.1; the scheme's name in any case (RFC 9110 §11.1).
_BEARER: Final = re.compile(rb"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*)")


class InvalidToken(Exception):  # noqa: N818 (says what the token is)
    """A token that lets nobody in. `description` says why, in ASCII without quotes, and holds nothing of the token.

    `advice` is for people. `seen` is for the log: what of the token tells what to mend, and never the token.
    """

    def __init__(self, description: str, advice: str = "", /, **seen: object) -> None:
        super().__init__(description)
        self.description = description
        self.advice = advice
        self.seen = seen


class KeysUnavailable(Exception):  # noqa: N818 (says what is the matter, as every exception of the kit does)
    """Nobody can say whether a token is valid: the issuer's keys are not to be had. `retry_after` in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("the issuer's keys could not be fetched")
        self.retry_after = retry_after


def bearer_token(authorization: bytes) -> bytes | None:
    """The token in a header `Authorization: Bearer`; None when there is none, or more than one.

    Raises InvalidToken when it is too long to be looked at.
    """
    if len(authorization) > MAX_BYTES:
        raise InvalidToken(f"The token is longer than {MAX_BYTES} bytes", length=len(authorization))
    found = _BEARER.fullmatch(authorization.strip(b" \t"))
    return None if found is None else found[1]
