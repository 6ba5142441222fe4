"""An issuer's keys, kept: fetched once for everybody, renewed in the background, good for a while without the issuer."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

import httpx

from outboxkit import tasks
from outboxkit.clipping import describe
from outboxkit_worker.bearer import KeysUnavailable
from outboxkit_worker.discovery import KeySet, fetch_keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

log = logging.getLogger(__name__)

# All in seconds.
FETCH: Final = 10.0
"""The longest that both documents may take; a relay waits 15 for an answer."""

STALE: Final = 86_400.0
"""How long keys that are not fresh any more are good, while the issuer is away."""

RETRY: Final = 5.0
"""From a fetch that failed to the next."""

COOL_DOWN: Final = 30.0
"""From a fetch for a key that nobody knew to the next for such a key: who makes keys up must not make us ask for them."""

State = Literal["fresh", "stale", "none"]


class SigningKeys:
    """The keys of one issuer.

    However many ask at once, one fetch is under way at most. A fetch that fails is made again by whoever asks after RETRY
    seconds; meanwhile what was fetched before stays good, until STALE seconds after it ceased to be fresh. A key that is
    not there is fetched for once, then not again for COOL_DOWN seconds. Keys that the issuer has dropped are gone with the
    next fetch. Nothing is kept beyond the process.
    """

    def __init__(self, issuer: str, *, clock: Callable[[], float] = monotonic) -> None:
        """Connects to nothing. `clock` in seconds."""
        self.generation = 0
        """Changes whenever the keys may have."""
        self._issuer = issuer
        self._clock = clock
        # Made once: loading the certificates of the web's authorities takes 50 ms of the event loop.
        self._client = httpx.AsyncClient(timeout=FETCH)
        self._held = KeySet({}, 0)
        self._fresh_until = self._good_until = self._retry_at = self._look_again_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        """`fresh`, `stale` (good, while the issuer is away), or `none`: no token can be checked."""
        now = self._clock()
        return "fresh" if now < self._fresh_until else "stale" if now < self._good_until else "none"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Begin to fetch, so that the first request need not wait; at the end, give up what is under way."""
        self._begin()
        try:
            yield
        finally:
            if self._fetching is not None:
                await tasks.end(self._fetching)
            await self._client.aclose()

    async def ensure(self) -> None:
        """Returns when there are keys that are good. Raises KeysUnavailable."""
        now = self._clock()
        if now < self._fresh_until:
            return
        if now >= self._retry_at:
            self._begin()
        if now < self._good_until:
            return
        await self._join()
        if self._clock() >= self._good_until:
            raise self._unavailable()

    async def find(self, kid: str) -> RSAPublicKey | None:
        """The key with this id; None when the issuer has no such key.

        Raises KeysUnavailable when the issuer could not be asked for one that is not known.
        """
        key = self._held.keys.get(kid)
        if key is not None:
            return key
        now = self._clock()
        if self._fetching is None and now >= max(self._look_again_at, self._retry_at):
            self._look_again_at = now + COOL_DOWN
            self._begin()
        await self._join()
        key = self._held.keys.get(kid)
        if key is None and self._clock() < self._retry_at:
            raise self._unavailable()
        return key

    def _begin(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())

    async def _join(self) -> None:
        """Wait for the fetch under way, if any. Shielded: who gives up waiting does not take it from the others."""
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH):
                found = await fetch_keys(self._client, self._issuer)
        except Exception as error:  # noqa: BLE001 (whatever it is, those who wait are told that there are no keys)
            self._retry_at = self._clock() + RETRY
            self._look_again_at = min(self._look_again_at, self._retry_at)
            log.warning("the keys of %s could not be fetched: %s", self._issuer, describe(error))
        else:
            self._hold(found)
        finally:
            self._fetching = None

    def _hold(self, found: KeySet) -> None:
        now = self._clock()
        self._held = found
        self._retry_at = -math.inf
        self._fresh_until = now + found.max_age
        self._good_until = self._fresh_until + STALE
        self.generation += 1
        log.info("fetched %d keys of %s, fresh for %.0f s", len(found.keys), self._issuer, found.max_age)

    def _unavailable(self) -> KeysUnavailable:
        return KeysUnavailable(max(1, math.ceil(self._retry_at - self._clock())))
