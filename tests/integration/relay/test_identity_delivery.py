"""A private worker in http mode: behind IAM as Cloud Run has it, which lets in nobody without an ID token for the worker."""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import jwt
import pytest

from databases import Database
from metadata_server import ACCOUNT, MetadataServer, found
from outboxkit_contracts.actions import Action
from outboxkit_relay.identity import IdTokens
from outboxkit_relay.settings import RelaySettings
from outboxkit_relay.transports.http import HttpTransport
from outboxkit_relay.triggers import Trigger
from relaying import Tables, eventually, running, settings
from sink import Reply, Request, Sink, accepted

AUDIENCE = "https://worker-abc.a.run.app"
AUTHORIZATION = ("authorization",)
BOTH = ("x-serverless-authorization", "authorization")
REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"


@dataclass
class Iam:
    """What stands before a private worker. `granted`: accounts that may call; `revoked`: tokens that no longer count.

    Of two headers it looks at X-Serverless-Authorization. It takes the signature off what it looked at, and hands on.
    """

    metadata: MetadataServer
    granted: set[str] = field(default_factory=lambda: {ACCOUNT})
    revoked: set[str] = field(default_factory=set)
    tokens: list[str] = field(default_factory=list)
    reached: list[dict[str, str]] = field(default_factory=list)
    """The headers of what got to the worker."""

    def __call__(self, request: Request) -> Reply:
        """Let in, or refuse in HTML; a refusal quotes the token, which Google's does not."""
        headers = dict(request.headers)
        checked = next((name for name in BOTH if name in headers), None)
        token = headers.get(checked or "", "").removeprefix("Bearer ")
        self.tokens.append(token)
        try:
            claims = self.metadata.verify(token, AUDIENCE)
        except jwt.InvalidTokenError:
            claims = {}
        if not claims or token in self.revoked:
            return Reply(401, f"<html>Unauthorized {token}</html>".encode(), "text/html; charset=UTF-8")
        if claims["email"] not in self.granted:
            return Reply(403, f"<html>Forbidden {token}</html>".encode(), "text/html; charset=UTF-8")
        assert checked is not None
        headers[checked] = f"Bearer {token.rpartition('.')[0]}.{REMOVED}"
        self.reached.append(headers)
        return accepted(request)


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MetadataServer]:
    """A metadata server, which this process finds."""
    with found(monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture
def iam(metadata: MetadataServer, sink: Sink) -> Iam:
    """IAM before the sink."""
    sink.answering = made = Iam(metadata)
    return made


def transport(url: str, names: tuple[str, ...] = AUTHORIZATION, *, deadline: float = 20.0) -> HttpTransport:
    """A transport that carries an identity."""
    return HttpTransport(
        url,
        secret=None,
        wait=0,
        deadline=deadline,
        connections=16,
        identity=IdTokens(AUDIENCE),
        identity_headers=names,
    )


def trigger() -> Trigger:
    """A trigger nobody has stored."""
    return Trigger(0.0, 1, uuid4(), "default", "K", None, 1, 0, 0.0)


def identified(database: Database, url: str, mode: str = "authorization", **environ: str) -> RelaySettings:
    """The settings of a relay that carries an identity."""
    return settings(database, url, WORKER_TRIGGER_OIDC=mode, WORKER_OIDC_AUDIENCE=AUDIENCE, **environ)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Everything that was logged, with tracebacks."""
    formatter = logging.Formatter("%(message)s")
    return "\n".join(formatter.format(record) for record in caplog.records)


async def last_error(db: Tables) -> str:
    """What the triggers' rows say about their last delivery."""
    rows = await db.rows("select distinct last_error from outboxkit.outbox where last_error is not null")
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("names", [AUTHORIZATION, BOTH])
async def test_a_private_worker_gets_every_job(
    database: Database, db: Tables, sink: Sink, iam: Iam, names: tuple[str, ...]
) -> None:
    """One token opens the door for all; the application sees it whole where there is a second header for IAM."""
    jobs = await db.enqueue_many(30)
    async with running(identified(database, sink.url, names[0])):
        await eventually(db.empty, what="the triggers to be settled")
    assert sorted(sink.job_ids) == sorted(jobs)
    assert len(iam.reached) == 30
    assert iam.metadata.asked["identity"] == 1
    for headers in iam.reached:
        assert [name for name in BOTH if name in headers] == [name for name in BOTH if name in names]
        seen = headers["authorization"].removeprefix("Bearer ")
        assert seen.endswith(REMOVED) is (names == AUTHORIZATION)
        if names == BOTH:
            assert iam.metadata.verify(seen, AUDIENCE)["email"] == ACCOUNT


async def test_a_worker_that_is_not_granted_stops_sending_and_buries_nothing(
    database: Database, db: Tables, sink: Sink, iam: Iam, caplog: pytest.LogCaptureFixture
) -> None:
    """403 of IAM for a while: the breaker opens, the row names the role, the token is nowhere; once granted, all arrive."""
    caplog.set_level(logging.DEBUG)
    iam.granted.clear()
    await db.enqueue_many(20)
    async with running(identified(database, sink.url, RELAY_MAX_ATTEMPTS="1")):
        await eventually(lambda: "sending stops" in logged(caplog), what="the breaker to open")
        await eventually(lambda: len(sink.requests) > 30, what="probes")
        error = await eventually(lambda: last_error(db), what="the row to say why")
        assert f"grant roles/run.invoker to {ACCOUNT} (audience {AUDIENCE})" in error
        assert await db.outbox() == 20
        iam.granted.add(ACCOUNT)
        await eventually(db.empty, what="the triggers to be settled")
    assert await db.letters() == []
    # A right that is missing is not the token's fault.
    assert iam.metadata.asked["identity"] == 1
    assert iam.tokens[0] not in error + logged(caplog)
    assert iam.tokens[0].rpartition(".")[2] not in error + logged(caplog)


async def test_a_relay_without_a_token_sends_nothing_and_buries_nothing(
    database: Database, db: Tables, sink: Sink, iam: Iam, caplog: pytest.LogCaptureFixture
) -> None:
    """The metadata server is away: no request goes out, the breaker opens, the row says why; when it is back, all arrive."""
    iam.metadata.stop()
    await db.enqueue_many(20)
    async with running(identified(database, sink.url, RELAY_MAX_ATTEMPTS="1")):
        await eventually(lambda: "sending stops" in logged(caplog), what="the breaker to open")
        error = await eventually(lambda: last_error(db), what="the row to say why")
        assert "no Google credentials (no answer from 127.0.0.1" in error
        assert not sink.requests
        assert await db.outbox() == 20
        iam.metadata.start()
        await eventually(db.empty, what="the triggers to be settled")
    assert await db.letters() == []
    assert len(iam.reached) == 20


async def test_a_revoked_token_is_replaced(database: Database, db: Tables, sink: Sink, iam: Iam) -> None:
    """A 401 makes the relay fetch another token at once, which opens the door; no dead letter, no second fetch."""
    await db.enqueue()
    async with running(identified(database, sink.url)):
        await eventually(lambda: iam.reached, what="the first job")
        iam.revoked.update(iam.tokens)
        await db.enqueue_many(20)
        await db.wake()
        await eventually(db.empty, what="the triggers to be settled")
    assert await db.letters() == []
    assert iam.metadata.asked["identity"] == 2


async def test_a_worker_that_accepts_no_token_costs_two(sink: Sink, iam: Iam) -> None:
    """401 whatever is sent, as for a wrong audience: a second token is tried, and then no more are fetched for a while."""
    sink.answering = lambda request: iam(request) and Reply(401, b"<html>", "text/html")
    sending = transport(sink.url)
    for _ in range(20):
        outcome = await sending.deliver(trigger())
        assert (outcome.status, outcome.verdict.action) == (401, Action.ENDPOINT_FAULT)
        assert f"roles/run.invoker to {ACCOUNT} (audience {AUDIENCE})" in outcome.verdict.reason
    await sending.close()
    assert iam.metadata.asked["identity"] == 2


async def test_the_wait_for_a_token_counts_towards_the_deadline(sink: Sink, metadata: MetadataServer) -> None:
    """A metadata server that says nothing: the delivery ends within its own deadline, and nothing was sent."""
    metadata.mode = "slow"
    sending = transport(sink.url, deadline=0.2)
    began = time.monotonic()
    outcome = await sending.deliver(trigger())
    assert time.monotonic() - began < 2
    assert (outcome.verdict.action, outcome.verdict.reason) == (Action.ENDPOINT_FAULT, "no ID token within 0.2 s")
    assert not sink.requests
    assert sending._identity is not None
    assert sending._identity._fetching is not None
    await sending.close()
    assert sending._identity._fetching is None


async def test_the_wait_for_an_answer_keeps_its_own_words(sink: Sink, metadata: MetadataServer) -> None:
    """The token was there and the worker says nothing: that is what the reason says."""
    sink.answering = lambda _: asyncio.Event().wait()  # type: ignore[assignment,return-value] # it never answers
    sending = transport(sink.url, deadline=1.0)
    assert (await sending.deliver(trigger())).verdict.reason == "no answer within 1 s"
    assert metadata.asked["identity"] == 1
    await sending.close()


async def test_no_identity_no_header(sink: Sink, metadata: MetadataServer) -> None:
    """A transport without an identity asks nobody for a token, and sends neither header."""
    sending = HttpTransport(sink.url, secret=None, wait=0, deadline=20, connections=1)
    assert (await sending.deliver(trigger())).verdict.action is Action.ACK
    await sending.close()
    assert not set(BOTH) & set(sink.requests[0].headers)
    assert not metadata.asked
