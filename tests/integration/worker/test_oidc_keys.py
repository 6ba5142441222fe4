"""The issuer's keys: fetched once, renewed, kept while it is away, and never asked for on a stranger's word."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from jwt.algorithms import RSAAlgorithm

from integration.worker.oidc import IN, UNAUTHORIZED, UNVERIFIABLE, outcome, send, settings
from oidc_issuer import ACCOUNT, AUDIENCE, DISCOVERY, JWKS, Document, OidcIssuer, compact, jwk, rs256, rsa_key
from outboxkit_worker import signing_keys
from outboxkit_worker.bearer import InvalidToken, KeysUnavailable
from outboxkit_worker.signing_keys import COOL_DOWN, RETRY, STALE, SigningKeys
from outboxkit_worker.tokens import REMEMBERED, TokenVerifier
from waiting import until, until_async


@pytest.fixture
def issuer() -> Iterator[OidcIssuer]:
    """An issuer of the test's own."""
    made = OidcIssuer()
    yield made
    made.down()


class Clock:
    """Goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now


@asynccontextmanager
async def keys_of(issuer: OidcIssuer) -> AsyncIterator[tuple[SigningKeys, Clock]]:
    """The keys of an issuer, and the clock that they live by."""
    clock = Clock()
    keys = SigningKeys(issuer.url, clock=clock)
    async with keys.running():
        yield keys, clock


def unknown(issuer: OidcIssuer, n: int = 0) -> str:
    """A token that names a key which the issuer does not have."""
    return compact(issuer.header(kid=f"made up {n}"), issuer.claims(), rs256(rsa_key("a stranger's")))


class TestFetching:
    """When the issuer is asked."""

    def test_the_keys_are_there_before_the_first_request(self, issuer: OidcIssuer, start_bare: Any) -> None:
        """And readiness says so; they are fetched once, for all requests."""
        worker = start_bare(None, **settings(issuer))
        until(lambda: worker.ready()["signingKeys"] == "fresh", what="the keys to be fetched")
        token = issuer.token()
        assert [outcome(send(worker, token)) for _ in range(5)] == [IN] * 5
        assert issuer.fetches == {DISCOVERY: 1, JWKS: 1}

    def test_fifty_first_requests_share_one_fetch(self, issuer: OidcIssuer, start_bare: Any) -> None:
        """They all wait for it, and are all let in."""
        token = issuer.token()
        with ThreadPoolExecutor(50) as pool:
            with issuer.held():
                worker = start_bare(None, **settings(issuer))
                answers = [pool.submit(send, worker, token) for _ in range(50)]
                until(lambda: len(worker._server.server_state.tasks) >= 50, what="every request to wait")
            assert {outcome(answer.result(30)) for answer in answers} == {IN}
        assert issuer.fetches == {DISCOVERY: 1, JWKS: 1}

    def test_a_request_that_is_given_up_leaves_the_fetch_to_the_others(self, issuer: OidcIssuer) -> None:
        """Whoever began it."""

        async def scene() -> None:
            async with keys_of(issuer) as (keys, _):
                with issuer.held():
                    waiting = [asyncio.create_task(keys.ensure()) for _ in range(3)]
                    await until_async(lambda: issuer.fetches[DISCOVERY], what="the fetch")
                    waiting[0].cancel()
                    await asyncio.wait(waiting[:1])
                await asyncio.gather(*waiting[1:])
                assert keys.state == "fresh"
            assert issuer.fetches[JWKS] == 1

        asyncio.run(scene())

    def test_stale_keys_are_renewed_in_the_background(self, issuer: OidcIssuer) -> None:
        """Nobody waits for that; once for everybody."""

        async def scene() -> None:
            async with keys_of(issuer) as (keys, clock):
                await keys.ensure()
                clock.now += 3599
                await keys.ensure()
                assert issuer.fetches[JWKS] == 1
                clock.now += 1
                with issuer.held():
                    for _ in range(20):
                        await keys.ensure()
                        assert await keys.find("first") is not None
                    assert keys.state == "stale"
                await until_async(lambda: keys.state == "fresh", what="the renewal")
            assert issuer.fetches == {DISCOVERY: 2, JWKS: 2}

        asyncio.run(scene())


class TestAway:
    """While the issuer does not answer."""

    def test_without_any_key_nobody_can_say(self, issuer: OidcIssuer, start_bare: Any) -> None:
        """503 with Retry-After, never 401, and the worker is no less ready; when the issuer is there, it lets in."""
        issuer.down()
        worker = start_bare(None, **settings(issuer))
        token = issuer.token()
        response = send(worker, token)
        assert outcome(response) == UNVERIFIABLE
        assert 0 < int(response.headers["retry-after"]) == response.json()["retryAfter"] <= RETRY
        assert "www-authenticate" not in response.headers
        ready = worker.ready()
        assert (ready["signingKeys"], ready["authentication"]) == ("none", "oidc")
        assert "issuer" not in str(ready["problems"])
        issuer.up()
        until(lambda: outcome(send(worker, token)) == IN, what="the worker to find the issuer")

    def test_an_issuer_that_does_not_answer_in_time(
        self, issuer: OidcIssuer, start_bare: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Is one that is away."""
        monkeypatch.setattr(signing_keys, "FETCH", 0.2)
        with issuer.held():
            assert outcome(send(start_bare(None, **settings(issuer)), issuer.token())) == UNVERIFIABLE

    def test_an_issuer_that_never_comes_to_an_end(
        self, issuer: OidcIssuer, start_bare: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As well, though it always says something."""
        monkeypatch.setattr(signing_keys, "FETCH", 0.5)
        issuer.documents[DISCOVERY] = Document(b" " * 1000, pause=0.05)
        assert outcome(send(start_bare(None, **settings(issuer)), issuer.token())) == UNVERIFIABLE

    def test_it_is_not_asked_again_at_once(self, issuer: OidcIssuer) -> None:
        """However many requests come, one attempt in RETRY seconds."""
        issuer.documents[DISCOVERY] = Document(b"", 500)

        async def scene() -> None:
            async with keys_of(issuer) as (keys, clock):
                for attempt in range(1, 4):
                    for _ in range(20):
                        with pytest.raises(KeysUnavailable) as caught:
                            await keys.ensure()
                        assert caught.value.retry_after == RETRY
                    assert issuer.fetches[DISCOVERY] == attempt
                    clock.now += RETRY

        asyncio.run(scene())

    def test_it_is_not_asked_for_an_unknown_key_at_once_either(self, issuer: OidcIssuer) -> None:
        """After an attempt that failed, whoever made it, RETRY seconds are waited for; then one more is made."""

        async def scene() -> None:
            async with keys_of(issuer) as (keys, clock):
                await keys.ensure()
                issuer.documents[DISCOVERY] = Document(b"", 500)
                clock.now += 3600
                await keys.ensure()
                await until_async(lambda: issuer.fetches[DISCOVERY] == 2, what="the attempt")
                for attempts in (2, 3, 4):
                    for n in range(20):
                        with pytest.raises(KeysUnavailable):
                            await keys.find(f"made up {n}")
                    assert issuer.fetches[DISCOVERY] == attempts
                    clock.now += RETRY

        asyncio.run(scene())

    def test_keys_that_were_fetched_are_good_for_a_day_more(self, issuer: OidcIssuer) -> None:
        """Then no more: a key that was withdrawn meanwhile must come to an end."""

        async def scene() -> None:
            async with keys_of(issuer) as (keys, clock):
                await keys.ensure()
                issuer.documents[JWKS] = Document(b"", 503)
                clock.now += 3600 + STALE - 1
                await keys.ensure()
                assert keys.state == "stale"
                await until_async(lambda: issuer.fetches[JWKS] == 2, what="the attempt")
                assert await keys.find("first") is not None
                clock.now += 1
                with pytest.raises(KeysUnavailable):
                    await keys.ensure()
                del issuer.documents[JWKS]
                clock.now += RETRY
                await keys.ensure()

        asyncio.run(scene())

    def test_a_token_that_was_valid_is_no_more_when_the_keys_are_none(self, issuer: OidcIssuer) -> None:
        """What is remembered of a token is worth no more than the keys."""

        async def scene() -> None:
            async with keys_of(issuer) as (keys, clock):
                verifier = TokenVerifier(keys, issuer=issuer.url, audience=AUDIENCE, accounts=[ACCOUNT])
                token = issuer.token().encode()
                for _ in range(3):
                    await verifier.verify(token)
                issuer.documents[JWKS] = Document(b"", 503)
                clock.now += 3600 + STALE
                with pytest.raises(KeysUnavailable):
                    await verifier.verify(token)

        asyncio.run(scene())

    def test_a_key_that_nobody_could_be_asked_about(self, issuer: OidcIssuer, start_bare: Any) -> None:
        """503 as well: it may be the issuer's new one. Known keys are good meanwhile."""
        worker = start_bare(None, **settings(issuer))
        known = issuer.token()
        assert outcome(send(worker, known)) == IN
        issuer.rotate("second")
        issuer.documents[JWKS] = Document(b"", 503)
        assert outcome(send(worker, issuer.token())) == UNVERIFIABLE
        assert outcome(send(worker, known)) == IN


class TestRotation:
    """When keys change."""

    def test_a_new_key_is_good_at_once(self, issuer: OidcIssuer, start_bare: Any) -> None:
        """And one that was dropped is gone with it, for tokens that were valid too."""
        worker = start_bare(None, **settings(issuer))
        old = issuer.token()
        assert outcome(send(worker, old)) == IN
        issuer.rotate("second")
        new = issuer.token()
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: outcome(send(worker, new)), range(20)))
        assert set(answers) == {IN}
        assert issuer.fetches[JWKS] == 2
        assert outcome(send(worker, old)) == UNAUTHORIZED

    def test_a_flood_of_kids_is_one_fetch(self, issuer: OidcIssuer, start_bare: Any, monkeypatch: Any) -> None:
        """Those after it are refused without asking; whoever has a key goes on."""
        monkeypatch.setattr(signing_keys, "COOL_DOWN", 3600.0)
        worker = start_bare(None, **settings(issuer))
        known = issuer.token()
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda n: outcome(send(worker, unknown(issuer, n))), range(200)))
        assert set(answers) == {UNAUTHORIZED}
        assert issuer.fetches[JWKS] == 2
        assert outcome(send(worker, known)) == IN

    def test_after_the_cool_down_one_more(self, issuer: OidcIssuer) -> None:
        """So that a key which came just after a flood is found then."""

        async def scene() -> None:
            async with keys_of(issuer) as (keys, clock):
                await keys.ensure()
                for fetches in (2, 3, 4):
                    for n in range(20):
                        assert await keys.find(f"made up {n}") is None
                    clock.now += COOL_DOWN - 1
                    assert await keys.find("made up") is None
                    assert issuer.fetches[JWKS] == fetches
                    clock.now += 1

        asyncio.run(scene())

    def test_only_so_many_tokens_are_remembered(self, issuer: OidcIssuer) -> None:
        """The oldest goes first, and is valid all the same."""

        async def scene() -> None:
            async with keys_of(issuer) as (keys, _):
                verifier = TokenVerifier(keys, issuer=issuer.url, audience=AUDIENCE, accounts=[ACCOUNT])
                tokens = [issuer.token(n=n).encode() for n in range(REMEMBERED + 5)]
                for token in [*tokens, tokens[0]]:
                    await verifier.verify(token)
                assert len(verifier._valid) == REMEMBERED
                with pytest.raises(InvalidToken):
                    await verifier.verify(unknown(issuer).encode())

        asyncio.run(scene())


def jwks(*keys: Any) -> Document:
    """A key set of these entries."""
    return Document(json.dumps({"keys": keys}).encode())


FIRST = rsa_key("first")
RUBBISH: dict[str, Callable[[OidcIssuer], dict[str, Document]]] = {
    "no JSON": lambda _: {JWKS: Document(b"<html>")},
    "nothing": lambda _: {JWKS: Document(b"")},
    "no UTF-8": lambda _: {JWKS: Document(b'{"keys": "\xff"}')},
    "nested without end": lambda _: {JWKS: Document(b'{"keys": [' + b"[" * 100_000)},
    "a list": lambda _: {JWKS: Document(b"[]")},
    "no keys": lambda _: {JWKS: jwks()},
    "keys that are no list": lambda _: {JWKS: Document(b'{"keys": {"first": 1}}')},
    "entries that are no keys": lambda _: {JWKS: jwks(1, "first", None, [], {})},
    "a key without kid": lambda _: {JWKS: jwks(jwk("x", FIRST) | {"kid": None})},
    "a key of another type": lambda _: {JWKS: jwks({"kty": "oct", "kid": "first", "k": "AAAA"})},
    "a key that is for encryption": lambda _: {JWKS: jwks(jwk("first", FIRST, use="enc"))},
    "a key for another algorithm": lambda _: {JWKS: jwks(jwk("first", FIRST, alg="RS512"))},
    "a key whose number is none": lambda _: {JWKS: jwks(jwk("first", FIRST, n="!"))},
    "a key that is too short": lambda _: {JWKS: jwks(jwk("first", rsa_key("short", 1024)))},
    "a key that is private": lambda _: {JWKS: jwks(jwk("first", FIRST) | json.loads(RSAAlgorithm.to_jwk(FIRST)))},
    "more than 128 KiB": lambda _: {JWKS: jwks(jwk("first", FIRST, note="x" * 140_000))},
    "an error": lambda _: {JWKS: Document(jwks(jwk("first", FIRST)).body, 404)},
    "a redirect": lambda i: {
        JWKS: Document(b"", 302, {"location": f"{i.url}/moved"}),
        "/moved": jwks(jwk("first", FIRST)),
    },
    "another issuer's discovery": lambda i: {
        DISCOVERY: Document(json.dumps({"issuer": "https://a.test", "jwks_uri": f"{i.url}{JWKS}"}).encode())
    },
    "discovery of an issuer with a slash more": lambda i: {
        DISCOVERY: Document(json.dumps({"issuer": f"{i.url}/", "jwks_uri": f"{i.url}{JWKS}"}).encode())
    },
    "discovery without keys": lambda i: {DISCOVERY: Document(json.dumps({"issuer": i.url}).encode())},
    "keys in the clear, elsewhere": lambda i: {
        DISCOVERY: Document(json.dumps({"issuer": i.url, "jwks_uri": "http://keys.test/"}).encode())
    },
    "keys in the clear, at an address that is not plainly this machine's": lambda i: {
        DISCOVERY: Document(json.dumps({"issuer": i.url, "jwks_uri": f"http://0.0.0.0:{i.port}{JWKS}"}).encode())
    },
    "keys in a file": lambda i: {
        DISCOVERY: Document(json.dumps({"issuer": i.url, "jwks_uri": "file:///etc/passwd"}).encode())
    },
    "keys nowhere": lambda i: {DISCOVERY: Document(json.dumps({"issuer": i.url, "jwks_uri": "https://[::"}).encode())},
}


class TestDocuments:
    """What is not believed."""

    @pytest.mark.parametrize("name", RUBBISH)
    def test_rubbish_is_no_key_set(self, name: str, issuer: OidcIssuer) -> None:
        """It is as if the issuer were away: keys from before stay good, and without any nobody can say."""

        async def scene() -> None:
            issuer.documents = RUBBISH[name](issuer)
            async with keys_of(issuer) as (keys, _):
                with pytest.raises(KeysUnavailable):
                    await keys.ensure()
                assert keys.state == "none"
            issuer.documents = {}
            async with keys_of(issuer) as (keys, clock):
                await keys.ensure()
                issuer.documents = RUBBISH[name](issuer)
                clock.now += 3600
                with pytest.raises(KeysUnavailable):
                    await keys.find("made up")
                assert keys.state == "stale"
                assert await keys.find("first") is not None

        asyncio.run(scene())

    def test_good_keys_among_others_are_found(self, issuer: OidcIssuer) -> None:
        """What cannot be used is passed over (RFC 7517 §5); `use` and `alg` may be left out."""
        plain = {name: value for name, value in jwk("plain", FIRST).items() if name not in ("use", "alg")}
        issuer.documents[JWKS] = jwks(None, {"kty": "EC", "kid": "ec"}, jwk("short", rsa_key("short", 1024)), plain)

        async def scene() -> None:
            async with keys_of(issuer) as (keys, _):
                await keys.ensure()
                assert await keys.find("plain") is not None
                assert await keys.find("short") is None

        asyncio.run(scene())
