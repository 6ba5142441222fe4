"""ID tokens for a private worker: fetched once for all, renewed while they hold, never sent when they do not."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import jwt
import pytest

from google_apis import CALLER, TARGET, GoogleApis
from metadata_server import ACCOUNT, MetadataServer, found, no_credentials
from outboxkit_relay import identity
from outboxkit_relay.credentials import CredentialsError
from outboxkit_relay.identity import EARLY, REFUSALS_APART, IdTokens
from waiting import until_async

AUDIENCE = "https://worker-abc.a.run.app"
HOUR = 3600.0


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MetadataServer]:
    """A metadata server, which this process finds."""
    with found(monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


def renewed(metadata: MetadataServer, tokens: IdTokens, count: int) -> Callable[[], bool]:
    """Whether the server has made so many ID tokens and the last has arrived."""
    return lambda: metadata.asked["identity"] == count and tokens._fetching is None


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the relay warned of."""
    return [record.message for record in caplog.records if record.name == identity.__name__]


async def test_everybody_shares_one_token(metadata: MetadataServer) -> None:
    """Fifty at once and one later get the same token, made for the audience, which was fetched once."""
    tokens = IdTokens(AUDIENCE)
    given = await asyncio.gather(*(tokens.token() for _ in range(50)))
    given.append(await tokens.token())
    assert len(set(given)) == 1
    assert metadata.asked["identity"] == 1
    assert metadata.verify(given[0], AUDIENCE)["email"] == ACCOUNT == tokens.account
    with pytest.raises(jwt.InvalidAudienceError):
        metadata.verify(given[0], "https://other")


async def test_a_token_is_renewed_in_the_background_before_it_expires(metadata: MetadataServer, clock: Clock) -> None:
    """With more than five minutes left nothing is fetched; with less the present token is used until the new one is here."""
    tokens = IdTokens(AUDIENCE, clock=clock)
    first = await tokens.token()
    clock.now += HOUR - EARLY - 5
    assert await tokens.token() == first
    assert tokens._fetching is None
    metadata.mode = "slow"
    clock.now += 10
    assert [await tokens.token() for _ in range(5)] == [first] * 5
    metadata.mode = "up"
    await until_async(renewed(metadata, tokens, 2), what="the renewal")
    assert await tokens.token() != first


async def test_a_short_lived_token_is_renewed_in_the_middle_of_its_time(metadata: MetadataServer) -> None:
    """A token of a few seconds: not before, and by the real clock each that is given still holds."""
    metadata.lifetime = 4
    tokens = IdTokens(AUDIENCE)
    given = {await tokens.token(), await tokens.token()}
    assert tokens._fetching is None
    deadline = time.monotonic() + 60
    while len(given) < 3 and time.monotonic() < deadline:
        token = await tokens.token()
        metadata.verify(token, AUDIENCE)
        given.add(token)
        await asyncio.sleep(0.01)
    assert len(given) == 3
    assert metadata.asked["identity"] <= 4


async def test_a_token_that_holds_is_used_while_it_cannot_be_renewed(
    metadata: MetadataServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The metadata server is away: the token serves to its end, and one line is logged; after it there is an error."""
    tokens = IdTokens(AUDIENCE, clock=clock)
    first = await tokens.token()
    metadata.stop()
    for seconds in (HOUR - EARLY + 5, 100, 100):
        clock.now += seconds
        assert await tokens.token() == first
        await until_async(lambda: tokens._fetching is None, what="the renewal to fail")
    assert len(warnings(caplog)) == 1
    assert "the present one still holds" in warnings(caplog)[0]
    clock.now += 100
    with pytest.raises(CredentialsError, match="no answer from 127"):
        await tokens.token()
    metadata.start()
    clock.now += 1
    assert await tokens.token() != first


async def test_a_failure_is_not_repeated_within_a_second(
    metadata: MetadataServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Everybody gets the last failure meanwhile; a second later one attempt is made. The same failure is logged once."""
    metadata.mode = "error"
    tokens = IdTokens(AUDIENCE, clock=clock)
    for attempts in (1, 2):
        for passed in (0.0, 0.5, 0.4):
            clock.now += passed
            results = await asyncio.gather(*(tokens.token() for _ in range(20)), return_exceptions=True)
            assert {type(result) for result in results} == {CredentialsError}
            assert len({str(result) for result in results}) == 1
            assert metadata.asked["ping"] == attempts
        clock.now += 1.0
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        ("error", "HTTP 500 from"),
        ("garbage", "HTTP 200 from"),
        ("html", "HTTP 200 from"),
        ("forbidden", "HTTP 404 from"),
        ("slow", "no answer from"),
    ],
)
async def test_what_is_no_token_is_told_without_quoting_it(
    metadata: MetadataServer, caplog: pytest.LogCaptureFixture, mode: str, seen: str
) -> None:
    """Whatever comes in place of a token, in time, the error says from where and what kind, and nothing of what came."""
    caplog.set_level(logging.DEBUG, logger="outboxkit_relay")
    metadata.mode = mode
    tokens = IdTokens(AUDIENCE)
    with pytest.raises(CredentialsError) as caught:
        async with asyncio.timeout(30):
            await tokens.token()
    assert f"{seen} {metadata.host}" in str(caught.value)
    assert "secret" not in str(caught.value) + "".join(warnings(caplog))


def stepped(seconds: float) -> SimpleNamespace:
    """The module `time` of a process whose wall clock is wrong by so much; the server's is right."""
    return SimpleNamespace(time=lambda: time.time() + seconds, monotonic=time.monotonic)


@pytest.mark.usefixtures("metadata")
@pytest.mark.parametrize("step", [-86400.0, 86400.0])
async def test_a_step_of_the_wall_clock_changes_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """Once a token is here, the monotonic clock alone counts: a day's step either way neither ends it nor keeps it."""
    tokens = IdTokens(AUDIENCE, clock=clock)
    first = await tokens.token()
    with monkeypatch.context() as patched:
        patched.setattr(identity, "time", stepped(step))
        assert await tokens.token() == first
        assert tokens._fetching is None
        clock.now += HOUR - EARLY + 5
        assert await tokens.token() == first
        assert tokens._fetching is not None
    clock.now += EARLY
    assert await tokens.token() != first


@pytest.mark.usefixtures("metadata")
async def test_a_slow_wall_clock_makes_no_token_last_longer_than_it_does(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine a day behind would give a token 25 hours: it has as long as its own claims say."""
    monkeypatch.setattr(identity, "time", stepped(-86400))
    tokens = IdTokens(AUDIENCE, clock=clock)
    await tokens.token()
    assert tokens._held is not None
    assert tokens._held.expires_at == pytest.approx(clock.now + HOUR, abs=1)


async def test_a_token_that_has_expired_on_arrival_is_no_token(metadata: MetadataServer) -> None:
    """A clock that is far ahead, here or there: no such token is sent, and the error names the clock."""
    metadata.lifetime = -10
    with pytest.raises(CredentialsError, match="clock may be wrong"):
        await IdTokens(AUDIENCE).token()


async def test_one_who_gives_up_takes_nobody_along(metadata: MetadataServer) -> None:
    """A caller is cancelled while all wait: the others get the token that was being fetched. The loop is never blocked."""
    metadata.mode = "slow"
    tokens = IdTokens(AUDIENCE)
    waiting = [asyncio.create_task(tokens.token()) for _ in range(3)]
    await until_async(lambda: metadata.asked["ping"] == 1, what="the fetch to begin")
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    metadata.mode = "up"
    _, second, third = await asyncio.gather(*waiting, return_exceptions=True)
    assert second == third == await tokens.token()
    assert isinstance(second, str)
    assert metadata.asked["identity"] == 1


async def test_closing_waits_for_no_fetch(metadata: MetadataServer) -> None:
    """A fetch that hangs ends with the transport; whoever waited for it is let go."""
    metadata.mode = "slow"
    tokens = IdTokens(AUDIENCE)
    waiting = asyncio.create_task(tokens.token())
    await until_async(lambda: metadata.asked["ping"] == 1, what="the fetch to begin")
    began = time.monotonic()
    await tokens.close()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert time.monotonic() - began < 2.5, "the request ran into its own timeout of three seconds"


async def test_a_refused_token_is_dropped_once_in_a_minute(metadata: MetadataServer, clock: Clock) -> None:
    """A refusal makes the next caller fetch; refusals of the new one, or of one long gone, do so only a minute later."""
    tokens = IdTokens(AUDIENCE, clock=clock)
    first = await tokens.token()
    for _ in range(20):
        tokens.refused(first)
    second = await tokens.token()
    assert second != first
    tokens.refused(first)
    tokens.refused(second)
    assert await tokens.token() == second
    clock.now += REFUSALS_APART
    tokens.refused(first)
    assert await tokens.token() == second
    tokens.refused(second)
    assert await tokens.token() != second
    assert metadata.asked["identity"] == 3


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GoogleApis]:
    """Google's token endpoints, without a metadata server."""
    no_credentials(monkeypatch, tmp_path)
    with GoogleApis(MetadataServer(), tmp_path) as apis:
        for name, value in apis.environment.items():
            monkeypatch.setenv(name, value)
        yield apis


async def test_a_key_file_makes_id_tokens(google: GoogleApis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service account's key is exchanged for an ID token at its token endpoint."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(google.key_file()))
    claims = google.mint.verify(await IdTokens(AUDIENCE).token(), AUDIENCE)
    assert claims["email"] == CALLER
    assert google.asked == {"token": 1}


async def test_an_impersonation_makes_id_tokens(google: GoogleApis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ID token names the impersonated account, with its e-mail address."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(google.impersonation_file()))
    tokens = IdTokens(AUDIENCE)
    assert google.mint.verify(await tokens.token(), AUDIENCE)["email"] == TARGET == tokens.account
    assert google.asked == {"token": 1, "generateIdToken": 1}


async def test_an_impersonation_that_is_not_granted_names_the_role(
    google: GoogleApis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 403 of the IAM Credentials API: the role to grant, and nothing of what it said."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(google.impersonation_file()))
    google.answers["generateIdToken"] = 403, {"error": {"message": "ya29.secret"}}
    with pytest.raises(CredentialsError, match=r"roles/iam\.serviceAccountTokenCreator") as caught:
        await IdTokens(AUDIENCE).token()
    assert "secret" not in str(caught.value)


async def test_a_persons_login_cannot_make_id_tokens(google: GoogleApis, monkeypatch: pytest.MonkeyPatch) -> None:
    """User credentials of gcloud have no way to an ID token for an audience: the error says so."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(google.user_file()))
    with pytest.raises(CredentialsError, match=r"user\.json', which cannot be used.*gcloud's user login"):
        await IdTokens(AUDIENCE).token()
    assert not google.asked


async def test_nothing_that_is_not_a_token_gets_into_a_header() -> None:
    """What is no compact JWT with an expiry is refused before it could be sent."""
    header = "eyJhbGciOiJSUzI1NiJ9"
    good = jwt.encode({"exp": time.time() + 60}, "k" * 32)
    assert identity._claims(good).exp > time.time()
    for bad in (
        "",
        "a.b.c",
        f"{good}\r\nx: y",
        f"{good}\n",
        f"{header}.e30.x",
        f"{header}.{'W1t' * 9999}.x",
        f"{header}.x.x",
    ):
        with pytest.raises(CredentialsError, match="none"):
            identity._claims(bad)
