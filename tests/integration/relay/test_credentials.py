"""The relay's access tokens for Google: found by google-auth's rules, fetched once, renewed in time, missing in words."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from google_apis import GoogleApis, certificate
from metadata_server import MetadataServer, found, no_credentials
from outboxkit_relay.credentials import (
    Authorization,
    CredentialsError,
    TokenRequest,
    application_default,
    described,
    in_thread,
    refresh,
)
from waiting import until

# A relay's view of Google in a process of its own: google-auth and gRPC read a part of the environment only once.
CHILD = """
import asyncio, json, sys
import grpc
from outboxkit_relay.credentials import CredentialsError, application_default, channel

async def main(endpoint):
    try:
        credentials = await application_default()
    except CredentialsError as error:
        return print(json.dumps(str(error)), flush=True)
    print(json.dumps("found"), flush=True)
    async with channel(endpoint, credentials) as opened:
        call = opened.unary_unary("/tests.Echo/Authorization")

        async def one():
            try:
                return "OK " + (await call(b"", timeout=60)).decode()
            except grpc.aio.AioRpcError as error:
                return f"{error.code().name} {error.details()}"

        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await asyncio.gather(*(one() for _ in range(int(line))))), flush=True)

asyncio.run(main(sys.argv[1]))
"""


class Caller:
    """A process with `channel` open, that calls when it is told to."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.start: str = self._line()

    def call(self, times: int = 1) -> list[str]:
        """What came of so many calls at once: the authorization the server saw, or an error."""
        assert self._process.stdin is not None
        print(times, file=self._process.stdin, flush=True)
        answers: list[str] = self._line()
        return answers

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Answers every call with the authorization that came along."""

    def service(self, _details: Any) -> Any:
        """Answer."""
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: dict(context.invocation_metadata()).get("authorization", "none").encode()
        )


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A gRPC server with TLS, and the authority that vouches for it."""
    authority, key = certificate(tmp_path, "localhost")
    server = grpc.server(ThreadPoolExecutor(8), handlers=(Echo(),))
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), authority.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"localhost:{port}", authority
    server.stop(None).wait()


@contextmanager
def calling(api: tuple[str, Path], environment: dict[str, str]) -> Iterator[Caller]:
    """A process with nothing of Google's in its environment but what is given."""
    endpoint, authority = api
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE", "GCE", "CLOUDSDK"))}
    own = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority), "CLOUDSDK_CONFIG": "/nonexistent", "NO_PROXY": "*"}
    command = [sys.executable, "-W", "error", "-c", CHILD, endpoint]
    with subprocess.Popen(
        command, env={**clean, **own, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Caller(process)
        finally:
            process.kill()


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    """A metadata server."""
    with MetadataServer() as server:
        yield server


def test_one_token_serves_all_calls(api: tuple[str, Path], metadata: MetadataServer) -> None:
    """Fifty calls at once and one later carry the same token, which the metadata server was asked for once."""
    with calling(api, metadata.environment) as caller:
        assert caller.start == "found"
        answers = [*caller.call(50), *caller.call()]
    assert set(answers) == {"OK Bearer ya29.1"}
    assert metadata.asked["token"] == 1
    assert {"scopes": ["https://www.googleapis.com/auth/cloud-platform"]} in metadata.queries


def test_a_token_is_renewed_before_it_expires(api: tuple[str, Path], metadata: MetadataServer) -> None:
    """With little time left the next call brings a new token, and the one that holds is not waited with."""
    metadata.lifetime = 200
    with calling(api, metadata.environment) as caller:
        assert caller.call() == ["OK Bearer ya29.1"]
        metadata.lifetime = 3600
        assert caller.call() == ["OK Bearer ya29.2"]
        assert set(caller.call(20)) == {"OK Bearer ya29.2"}


def test_a_token_that_holds_is_used_while_it_cannot_be_renewed(api: tuple[str, Path], metadata: MetadataServer) -> None:
    """The metadata server goes away in a token's last minutes: every call still has the token."""
    metadata.lifetime = 200
    with calling(api, metadata.environment) as caller:
        assert caller.call() == ["OK Bearer ya29.1"]
        metadata.stop()
        assert set(caller.call(20)) == {"OK Bearer ya29.1"}
        metadata.start()
        until(lambda: caller.call() != ["OK Bearer ya29.1"], what="the token to be renewed")


def test_an_expired_token_is_not_sent(api: tuple[str, Path], metadata: MetadataServer) -> None:
    """When a token has expired and no other is to be had, calls fail and say why; afterwards they work again."""
    metadata.lifetime = 2
    with calling(api, metadata.environment) as caller:
        assert caller.call() == ["OK Bearer ya29.1"]
        metadata.stop()
        until(lambda: caller.call() != ["OK Bearer ya29.1"], what="the token to expire")
        (failure,) = set(caller.call(20))
        assert failure == (
            "UNAVAILABLE Getting metadata from plugin failed with error:"
            f" no Google token: no answer from {metadata.host}, the metadata server; check the network"
        )
        metadata.start()
        until(lambda: caller.call()[0].startswith("OK"), what="a token")


def test_a_server_that_does_not_answer_fails_calls_in_time(api: tuple[str, Path], metadata: MetadataServer) -> None:
    """A metadata server that accepts and says nothing: all calls fail together, before their own deadline of a minute."""
    with calling(api, metadata.environment) as caller:
        assert caller.start == "found"
        metadata.mode = "slow"
        began = time.monotonic()
        failures = set(caller.call(20))
        assert time.monotonic() - began < 30
        assert metadata.asked["default"] == 1, "it was tried once, and not by everybody"
    assert len(failures) == 1
    assert f"no answer from {metadata.host}, the metadata server" in failures.pop()


@pytest.mark.parametrize(
    ("mode", "seen"), [("error", "HTTP 500"), ("garbage", "HTTP 200"), ("html", "HTTP 200"), ("forbidden", "HTTP 404")]
)
def test_what_is_no_token_is_told_without_quoting_it(
    api: tuple[str, Path], metadata: MetadataServer, mode: str, seen: str
) -> None:
    """Whatever comes in place of a token, the call says from where and what kind, and nothing of what came."""
    with calling(api, metadata.environment) as caller:
        assert caller.start == "found"
        metadata.mode = mode
        (failure,) = caller.call()
        assert f"the metadata server gives no token ({seen} from {metadata.host})" in failure
        assert "secret" not in failure
        metadata.mode = "up"
        until(lambda: caller.call()[0].startswith("OK"), what="a token")


def test_a_key_file_gives_tokens(api: tuple[str, Path], tmp_path: Path) -> None:
    """A service account's key is exchanged at its token endpoint."""
    with GoogleApis(MetadataServer(), tmp_path) as google:
        with calling(api, {"GOOGLE_APPLICATION_CREDENTIALS": str(google.key_file())}) as caller:
            assert set(caller.call(20)) == {"OK Bearer ya29.1"}
        assert google.asked["token"] == 1


def test_an_impersonation_gives_tokens(api: tuple[str, Path], tmp_path: Path) -> None:
    """One account's key and the IAM Credentials API give another account's token, for the Cloud Tasks scope."""
    with GoogleApis(MetadataServer(), tmp_path) as google:
        environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(google.impersonation_file()), **google.environment}
        # gRPC would use the proxy too.
        with calling(api, environment | {"NO_GRPC_PROXY": "localhost", "no_grpc_proxy": "localhost"}) as caller:
            assert set(caller.call(20)) == {"OK Bearer ya29.2"}
        assert google.asked == {"token": 1, "generateAccessToken": 1}


def test_a_process_without_any_says_so_at_once(api: tuple[str, Path]) -> None:
    """No file, no login, nobody at the metadata server's address: one sentence says what to do."""
    with calling(api, {"GCE_METADATA_HOST": "127.0.0.1:1", "GCE_METADATA_IP": "127.0.0.1:1"}) as caller:
        assert caller.start == (
            "no Google credentials (no answer from 127.0.0.1:1): set GOOGLE_APPLICATION_CREDENTIALS to a key file,"
            " or run where a metadata server is: on Cloud Run with a service account"
        )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "which is no file"),
        ("", "which cannot be used"),
        ("[]", "which cannot be used"),
        ('{"type": "service_account", "private_key": "secret"}', "which cannot be used"),
        ('{"type": "secret"}', "which cannot be used"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, complaint: str
) -> None:
    """A path that leads nowhere, or to anything but credentials: the variable and the path, and nothing of the content."""
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    no_credentials(monkeypatch, tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(CredentialsError) as caught:
        await application_default()
    assert str(caught.value) == f"no Google credentials: GOOGLE_APPLICATION_CREDENTIALS names '{path}', {complaint}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("kind", "broken", "complaint"),
    [
        ("key", "token", "Google gives no token for these credentials (HTTP 400"),
        ("impersonation", "token", "no token by impersonation (HTTP 400 from 127.0.0.1"),
        ("impersonation", "generateAccessToken", "no token by impersonation (HTTP 400 from iamcredentials.googleapis"),
    ],
)
async def test_a_refusal_says_which_role_or_key_and_quotes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, broken: str, complaint: str
) -> None:
    """A key that is revoked, an impersonation that is not granted: what to look at, and nothing of the answer."""
    no_credentials(monkeypatch, tmp_path)
    with GoogleApis(MetadataServer(), tmp_path) as google:
        for name, value in google.environment.items():
            monkeypatch.setenv(name, value)
        file = google.key_file() if kind == "key" else google.impersonation_file()
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        google.answers[broken] = 400, {"error": "invalid_grant", "error_description": "ya29.secret"}
        credentials = await application_default()
        with pytest.raises(CredentialsError) as caught:
            await asyncio.to_thread(refresh, credentials, TokenRequest())
    assert str(caught.value).startswith(complaint)
    assert "ya29" not in str(caught.value)
    assert ("roles/iam.serviceAccountTokenCreator" in str(caught.value)) is (kind == "impersonation")


async def test_a_failure_is_not_repeated_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls right after a failure share it: one fetch, one line in the log."""
    given: list[Any] = []
    with found(monkeypatch, tmp_path) as metadata:
        authorization = Authorization(await application_default())
        metadata.mode = "error"
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            authorization(None, lambda headers, error: given.append((headers, str(error))))
        assert metadata.asked["default"] == 1
    assert len(given) > 10
    assert len(set(given)) == 1
    assert len([record for record in caplog.records if record.name.startswith("outboxkit")]) == 1


async def test_requests_end_within_their_time(metadata: MetadataServer) -> None:
    """The requests of one fetch share their seconds; google-auth's own tries and timeouts do not add to them."""
    metadata.mode = "slow"
    request = TokenRequest(0.2)
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(Exception, match="no answer from 127"):
            await asyncio.to_thread(request, f"http://{metadata.host}/", timeout=120)
    assert time.monotonic() - began < 20


async def test_a_thread_that_hangs_is_left_behind() -> None:
    """Whoever waits gets an error in time, and the process may end meanwhile."""
    script = (
        "import asyncio, threading\n"
        "from outboxkit_relay.credentials import in_thread\n"
        "asyncio.run(in_thread(threading.Event().wait, seconds=0.05))\n"
    )
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert "no answer about Google credentials within 0.05 s" in ended.stderr
    assert await in_thread(lambda: 3, seconds=20) == 3


def test_a_missing_extra_is_named() -> None:
    """Without google-auth the text says what to install."""
    assert described(ModuleNotFoundError("No module named 'google'")) == (
        "google-auth is not installed: install outboxkit[cloud-tasks]"
    )
