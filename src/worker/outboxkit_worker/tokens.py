"""Checks identity tokens (OpenID Connect): signature, issuer, audience, times, and whose it is."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from time import time
from typing import Any, Final

import jwt
import msgspec

from outboxkit_worker.bearer import InvalidToken
from outboxkit_worker.discovery import ALGORITHM
from outboxkit_worker.settings import GOOGLE
from outboxkit_worker.signing_keys import SigningKeys

LEEWAY: Final = 30.0
"""Seconds by which the issuer's clock and ours may differ."""

REMEMBERED: Final = 1000
"""Tokens that were valid and need not be looked at again: a relay sends one token for up to an hour."""

STRIPPED: Final = b".SIGNATURE_REMOVED_BY_GOOGLE"
"""What ends a token that has passed Cloud Run's IAM check."""

# A whole number in a token may be larger than any float.
_LATEST: Final = 1e12
_REQUIRED: Final = ("exp", "iat", "iss", "aud", "email")

_SAID: Final[dict[type[jwt.PyJWTError], str]] = {
    jwt.ExpiredSignatureError: "The token has expired",
    jwt.ImmatureSignatureError: "The token is not yet valid",
    jwt.InvalidAudienceError: "The token is for another audience",
    jwt.InvalidIssuerError: "The token is of another issuer",
    jwt.InvalidSignatureError: "The signature of the token is wrong",
    jwt.InvalidAlgorithmError: f"The token is not signed with {ALGORITHM}",
}


class _Claims(msgspec.Struct):
    """What decides, in the types that it must have: a number in quotes, or a truth in quotes, is none."""

    exp: int | float
    iat: int | float
    email: str
    email_verified: bool = False
    nbf: int | float = 0


class TokenVerifier:
    """Says whether a token lets its bearer in: one of `accounts`, for `audience`, signed by `issuer`."""

    def __init__(self, keys: SigningKeys, *, issuer: str, audience: str, accounts: Collection[str]) -> None:
        self.keys = keys
        # Google signs with both names: https://developers.google.com/identity/openid-connect/openid-connect#validatinganidtoken
        self._issuers = frozenset({issuer, "accounts.google.com"} if issuer == GOOGLE else {issuer})
        self._audience = audience
        self._accounts = frozenset(accounts)
        self._valid: dict[bytes, float] = {}
        self._generation = keys.generation

    async def verify(self, token: bytes) -> None:
        """Returns when the token is valid. Raises InvalidToken, and KeysUnavailable when nobody can say."""
        if token.endswith(STRIPPED):
            raise _stripped()
        await self.keys.ensure()
        digest = sha256(token).digest()
        if self._is_remembered(digest):
            return
        claims = await self._read(token)
        if claims.email not in self._accounts:
            raise InvalidToken("The token is of another account", email=claims.email)
        if not claims.email_verified:
            raise InvalidToken("The issuer has not verified the e-mail address of the token", email=claims.email)
        self._remember(digest, min(claims.exp, _LATEST) + LEEWAY)

    async def _read(self, token: bytes) -> _Claims:
        """The claims of a token that the issuer has signed for this audience, and that is valid now."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError as error:
            raise _invalid(error, token) from None
        if kid is None:
            raise InvalidToken("The token names no key")
        key = await self.keys.find(kid)
        if key is None:
            raise InvalidToken("The token is signed with a key that is not of the issuer", kid=kid)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuers,
                leeway=LEEWAY,
                options={"require": list(_REQUIRED)},
            )
            return msgspec.convert(claims, _Claims)
        except jwt.PyJWTError as error:
            raise _invalid(error, token) from None
        except msgspec.ValidationError as error:
            raise InvalidToken("A claim of the token is not of its type", why=str(error)) from None

    def _is_remembered(self, digest: bytes) -> bool:
        """What was signed with a key that is gone is forgotten with it."""
        if self._generation != self.keys.generation:
            self._generation = self.keys.generation
            self._valid.clear()
        return self._valid.get(digest, 0.0) > time()

    def _remember(self, digest: bytes, until: float) -> None:
        if self._generation == self.keys.generation:
            if len(self._valid) >= REMEMBERED:
                del self._valid[next(iter(self._valid))]
            self._valid[digest] = until


def _invalid(error: jwt.PyJWTError, token: bytes) -> InvalidToken:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return InvalidToken(f"The token has no claim {error.claim}")
    said = _SAID.get(type(error))
    if said is None:
        return InvalidToken("The token is no JSON Web Token", why=str(error))
    return InvalidToken(said, **_shown(token) if isinstance(error, jwt.InvalidAudienceError) else {})


def _shown(token: bytes) -> dict[str, object]:
    """What a token says of itself, for the log; its signature was right."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return {"audience": claims.get("aud"), "email": claims.get("email")}


def _stripped() -> InvalidToken:
    return InvalidToken(
        "Cloud Run has removed the signature of the token",
        "Its IAM check leaves SIGNATURE_REMOVED_BY_GOOGLE in its place, so nobody can check the token again. Either "
        "leave the check to IAM and unset WORKER_OIDC_SERVICE_ACCOUNTS here, or have the relay send the token as "
        "X-Serverless-Authorization too (WORKER_TRIGGER_OIDC=x-serverless-authorization): then Authorization arrives whole.",
    )
