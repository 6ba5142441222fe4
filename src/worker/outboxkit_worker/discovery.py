"""Asks an OpenID issuer for its public keys: the discovery document, then the key set that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from outboxkit_worker.settings import is_trustworthy

D = TypeVar("D")

ALGORITHM: Final = "RS256"
"""What Google signs with. One algorithm, of one key type: a token cannot choose how it is looked at."""

MAX_BYTES: Final = 128 * 1024
"""Of either document; Google's key set has about 1,500."""

DEFAULT_MAX_AGE: Final = 3600.0
"""Seconds for which keys are fresh when the issuer does not say."""

_MAX_AGE_BOUNDS: Final = (300.0, 43_200.0)
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?([0-9]{1,9})(?![0-9])", re.IGNORECASE)
_KEY_BITS: Final = range(2048, 8193)

# Identity: what is compressed could grow past every limit.
_HEADERS: Final = {"accept": "application/json", "accept-encoding": "identity"}


class Unusable(ValueError):  # noqa: N818 (says of a document what it is)
    """What the issuer answered is no use; the text says why."""


class KeySet(msgspec.Struct, frozen=True):
    """The keys by their id (`kid`), and how long they are fresh, in seconds."""

    keys: Mapping[str, RSAPublicKey]
    max_age: float


class _Configuration(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _Jwks(msgspec.Struct):
    keys: list[Any]


async def fetch_keys(client: httpx.AsyncClient, issuer: str) -> KeySet:
    """The issuer's keys, by way of its discovery document; redirects are not followed.

    Raises httpx.HTTPError when it does not answer, and Unusable when what it answers is too large, no such document,
    another issuer's, or without any key for RS256.
    """
    address = issuer.rstrip("/") + "/.well-known/openid-configuration"
    configuration, _ = await _get(client, address, _Configuration)
    if configuration.issuer != issuer:
        raise Unusable(f"{address} is the document of {configuration.issuer!r}")
    # Keys in the clear would be anybody's on the way.
    if not is_trustworthy(configuration.jwks_uri, loopback=issuer.startswith("http:")):
        raise Unusable(f"{address} names a key set at {configuration.jwks_uri!r}, which is no https URL")
    jwks, cache_control = await _get(client, configuration.jwks_uri, _Jwks)
    keys = dict(_usable(jwks.keys))
    if not keys:
        raise Unusable(f"{configuration.jwks_uri} holds no key for {ALGORITHM}")
    return KeySet(keys, max_age(cache_control))


def max_age(cache_control: str | None) -> float:
    """How long keys are fresh by a Cache-Control header, in seconds; never under five minutes or over twelve hours."""
    found = _MAX_AGE.search(cache_control or "")
    low, high = _MAX_AGE_BOUNDS
    return min(max(float(found[1]), low), high) if found else DEFAULT_MAX_AGE


async def _get(client: httpx.AsyncClient, url: str, kind: type[D]) -> tuple[D, str | None]:
    """A document, and its Cache-Control."""
    async with client.stream("GET", url, headers=_HEADERS, follow_redirects=False) as response:
        if response.status_code != httpx.codes.OK:
            raise Unusable(f"{url} answered HTTP {response.status_code}")
        body = b""
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > MAX_BYTES:
                raise Unusable(f"{url} answered more than {MAX_BYTES:,} bytes")
    try:
        return msgspec.json.decode(body, type=kind), response.headers.get("cache-control")
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{url} answered no such document: {error}") from None


def _usable(entries: list[Any]) -> Iterator[tuple[str, RSAPublicKey]]:
    """RSA keys for signatures; whatever else stands in the set is another's business (RFC 7517 §5)."""
    for entry in entries:
        match entry:
            case {"kty": "RSA", "kid": str(kid)}:
                purpose = entry.get("use", "sig"), entry.get("alg", ALGORITHM)
            case _:
                continue
        if purpose != ("sig", ALGORITHM):
            continue
        try:
            key = jwt.PyJWK(entry, ALGORITHM).key
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if isinstance(key, RSAPublicKey) and key.key_size in _KEY_BITS:
            yield kid, key
