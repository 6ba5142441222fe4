"""ID tokens: by these a private worker knows the relay."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from outboxkit.tasks import end
from outboxkit_relay import credentials
from outboxkit_relay.credentials import PAUSE, CredentialsError

log = logging.getLogger(__name__)

# A token is renewed when it has so many seconds left, or half of its time if that is less.
EARLY: Final = 300.0
# Seconds until a refused token is held to be at fault again: a worker that refuses all must not make us fetch ever more.
REFUSALS_APART: Final = 60.0
# Seconds for one fetch, whatever happens below: a little more than its requests may take.
LONGEST_FETCH: Final = credentials.LONGEST_FETCH + 2

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


class _Claims(msgspec.Struct):
    exp: float
    iat: float | None = None
    email: str | None = None


_CLAIMS: Final = msgspec.json.Decoder(_Claims)


class _Held(msgspec.Struct, frozen=True):
    """A token, and times on the monotonic clock."""

    token: str
    renew_at: float
    expires_at: float


class IdTokens:
    """The ID token for one audience, cached, and renewed in the background while it still holds. Used from one event loop.

    It comes from a metadata server, a service account's key or an impersonation; gcloud's user login cannot make one. When a
    renewal fails the present token stays in use; fetches that failed are repeated once a second at most.
    """

    def __init__(self, audience: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`audience` is who the token is for: the worker's URL, as Cloud Run knows it. `clock` in seconds never steps."""
        self.audience = audience
        self.account = ""  # the e-mail address that the last token names
        self._clock = clock
        self._held: _Held | None = None
        self._fetching: asyncio.Task[_Held | None] | None = None
        self._failure = ""
        self._not_before = 0.0
        self._believed_again_at = 0.0

    async def token(self) -> str:
        """A token that holds. Waits only when there is none yet, for about ten seconds at most; raises CredentialsError."""
        now, held = self._clock(), self._held
        if held is not None and now < held.renew_at:
            return held.token
        fetching = self._start(now)
        if held is not None and now < held.expires_at:
            return held.token
        # Shielded: a delivery that is given up must not take the others' fetch along.
        fetched = None if fetching is None else await asyncio.shield(fetching)
        if fetched is None:
            raise CredentialsError(self._failure)
        return fetched.token

    def refused(self, token: str) -> None:
        """Say that the worker's side did not accept this token: the next call fetches another, once in a minute."""
        now, held = self._clock(), self._held
        if held is not None and held.token == token and now >= self._believed_again_at:
            self._believed_again_at = now + REFUSALS_APART
            self._held = None

    async def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            await end(self._fetching)

    def _start(self, now: float) -> asyncio.Task[_Held | None] | None:
        """The fetch under way; a new one if there is none, unless one has just failed."""
        if self._fetching is None and now >= self._not_before:
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> _Held | None:
        try:
            token = await credentials.in_thread(lambda: fetch(self.audience), seconds=LONGEST_FETCH)
            self._held, self.account = _read(token, self._clock())
        except CredentialsError as error:
            self._failed(str(error))
            return None
        finally:
            self._fetching = None
        self._failure = ""
        return self._held

    def _failed(self, failure: str) -> None:
        now = self._clock()
        self._not_before = now + PAUSE
        if failure != self._failure:
            holds = self._held is not None and now < self._held.expires_at
            log.warning("no new ID token%s: %s", ", the present one still holds" if holds else "", failure)
        self._failure = failure


def fetch(audience: str) -> str:
    """Fetch an ID token for an audience from wherever this process has its identity. Blocks; raises CredentialsError."""
    request = credentials.new_request()
    found = _find(audience, request)
    credentials.refresh(found, request)
    return str(found.token)


def _find(audience: str, request: credentials.TokenRequest) -> Any:
    try:
        from google.oauth2.id_token import fetch_id_token_credentials

        return fetch_id_token_credentials(audience, request=request)
    except Exception as error:  # noqa: BLE001 (whatever a file or an answer holds; google-auth's texts may quote it)
        text = credentials.described(error, seen=request.seen)
        raise CredentialsError(
            f"{text}. An ID token needs a metadata server, a service account's key or an impersonation;"
            " gcloud's user login and federated credentials cannot make one for an audience"
        ) from None


def _read(token: str, now: float) -> tuple[_Held, str]:
    """Judge what came; also the account it names. The wall clock says once how much time is left, `now`'s counts it down."""
    claims = _claims(token)
    left = claims.exp - time.time()
    if claims.iat is not None:
        left = min(left, claims.exp - claims.iat)
    if left <= 0:
        raise CredentialsError("the ID token that came has expired: this machine's clock may be wrong")
    account = claims.email or ""
    return _Held(token, now + left - min(EARLY, left / 2), now + left), account if account.isprintable() else ""


def _claims(token: str) -> _Claims:
    try:
        if (compact := _COMPACT.fullmatch(token)) is not None:
            payload = compact.group(1)
            return _CLAIMS.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        pass
    raise CredentialsError("what came in place of an ID token is none")
