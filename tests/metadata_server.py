"""A metadata server as Cloud Run and Compute Engine have one: Google's protocol on a real socket, with keys of its own.

It runs in a thread, so that google-auth, which blocks, can be used on the test's own. Besides it: what a program must see to
find it.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from waiting import until

ISSUER = "https://accounts.google.com"
# Not under gserviceaccount.com: for such an account google-auth asks Google where it may be used, and tests ask nobody.
ACCOUNT = "relay@project.iam.example"
ROOT = "/computeMetadata/v1"
FLAVOR = {"Metadata-Flavor": "Google"}


class Handler(BaseHTTPRequestHandler):
    """Answers by its server; says nothing on the terminal."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer as Google's server does, or as the test wants."""
        status, kind, body, headers = self.server.owner.answer(self.path, self.headers.get("Metadata-Flavor"))
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the name it is called with)
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Its connections end with it."""

    daemon_threads = True
    block_on_close = False
    owner: MetadataServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever went away in the middle was meant to."""


Answer = tuple[int, str, bytes, dict[str, str]]


class MetadataServer:
    """The server: `with MetadataServer() as metadata`. What it does can be changed at any time.

    `lifetime` is that of the tokens it makes, in seconds. `mode`: up, error (500), garbage and html (200, but no token),
    slow (no answer until the mode is another), forbidden (404, as where no service account is). `stop` makes it unreachable,
    and `start` brings it back at the same address. `asked` counts requests by the last part of the path.
    """

    def __init__(self) -> None:
        self.lifetime = 3600.0
        self.mode = "up"
        self.account = ACCOUNT
        self.asked: Counter[str] = Counter()
        self.queries: list[dict[str, list[str]]] = []
        self.host = "127.0.0.1:0"
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._minted = 0
        self._lock = threading.Lock()
        self._server: Server | None = None

    def __enter__(self) -> MetadataServer:
        """Start on a free port."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.mode = "up"
        self.stop()

    def start(self) -> None:
        """Listen, at the address it had if it had one."""
        host, _, port = self.host.partition(":")
        self._server = Server((host, int(port)), Handler)
        self._server.owner = self
        self.host = f"{host}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more; whoever connects is refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def environment(self) -> dict[str, str]:
        """What google-auth's variables must say for a process to find it: it is pinged at one, and asked at the other."""
        return {"GCE_METADATA_HOST": self.host, "GCE_METADATA_IP": self.host}

    def id_token(self, audience: str, **claims: Any) -> str:
        """Make an ID token."""
        now = int(time.time())
        fixed = {"iss": ISSUER, "aud": audience, "sub": "1", "email": self.account, "email_verified": True}
        payload = {**fixed, "iat": now, "exp": now + int(self.lifetime), "jti": str(self._next()), **claims}
        return jwt.encode(payload, self._key, "RS256", headers={"kid": "metadata"})

    def access_token(self) -> dict[str, Any]:
        """Make an access token, as the answer that holds it."""
        return {"access_token": f"ya29.{self._next()}", "expires_in": int(self.lifetime), "token_type": "Bearer"}

    def verify(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of a token of this server for this audience; raises PyJWT's errors for every other one."""
        claims: dict[str, Any] = jwt.decode(
            token, self._key.public_key(), ["RS256"], audience=audience, issuer=ISSUER, options={"require": ["exp"]}
        )
        return claims

    def answer(self, path: str, flavor: str | None) -> Answer:
        """What is answered to a GET."""
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        what = parts.path.rstrip("/").rpartition("/")[2]
        with self._lock:
            self.asked[what or "ping"] += 1
            self.queries.append(query)
        # A few minutes at most: whoever asked has given up long before.
        for _ in range(30_000):
            if self.mode != "slow":
                break
            time.sleep(0.01)
        if flavor != "Google":
            return 403, "text/html", b"Missing required header: Metadata-Flavor", {}
        return self._broken(what) or self._found(parts.path.rstrip("/"), query)

    def _broken(self, what: str) -> Answer | None:
        match self.mode:
            case "error":
                return HTTPStatus.INTERNAL_SERVER_ERROR, "text/html", b"ya29.secret in an error", FLAVOR
            case "html":
                return HTTPStatus.OK, "text/html", b"<html>Sign in to ya29.secret</html>", {}
            case "garbage" if what in {"token", "identity"}:
                kind = "application/json" if what == "token" else "text/html"
                return HTTPStatus.OK, kind, b'{"ya29.secret": "\xc3\xbf"}', FLAVOR
            case "forbidden" if what in {"token", "identity"}:
                return HTTPStatus.NOT_FOUND, "text/html", b"no service account", FLAVOR
        return None

    def _found(self, path: str, query: dict[str, list[str]]) -> Answer:
        account = f"{ROOT}/instance/service-accounts"
        head, _, what = path.rpartition("/")
        if head in {f"{account}/default", f"{account}/{self.account}"} and what == "token":
            return _json(self.access_token())
        if head in {f"{account}/default", f"{account}/{self.account}"} and what == "identity":
            if query.get("format") != ["full"] or "audience" not in query:
                return HTTPStatus.BAD_REQUEST, "text/html", b"non-empty audience parameter required", FLAVOR
            return _text(self.id_token(query["audience"][0]))
        if path in {f"{account}/default", f"{account}/{self.account}"} and query.get("recursive") == ["true"]:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            return _json({"aliases": ["default"], "email": self.account, "scopes": scopes})
        texts = {
            "": "computeMetadata/",
            f"{account}/default/email": self.account,
            f"{ROOT}/project/project-id": "project",
            f"{ROOT}/universe/universe-domain": "googleapis.com",
        }
        return _text(texts[path]) if path in texts else (HTTPStatus.NOT_FOUND, "text/html", b"Not Found", FLAVOR)

    def _next(self) -> int:
        with self._lock:
            self._minted += 1
            return self._minted


def _json(value: Any) -> Answer:
    return HTTPStatus.OK, "application/json", json.dumps(value).encode(), FLAVOR


def _text(value: str) -> Answer:
    return HTTPStatus.OK, "application/text", value.encode(), FLAVOR


def no_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Take away whatever this machine has: a key file, gcloud's login, a metadata server."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(folder / "no-gcloud"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    point_at(monkeypatch, "127.0.0.1:1")


def point_at(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Make google-auth in this process use the metadata server at `host`.

    It reads GCE_METADATA_HOST while it is imported, which some other test may have done; GCE_METADATA_IP at each ping.
    """
    from google.auth.compute_engine import _metadata

    monkeypatch.setenv("GCE_METADATA_HOST", host)
    monkeypatch.setenv("GCE_METADATA_IP", host)
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", False)


@contextmanager
def found(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[MetadataServer]:
    """A metadata server that is the only place where this process finds credentials."""
    no_credentials(monkeypatch, folder)
    with MetadataServer() as server:
        point_at(monkeypatch, server.host)
        yield server
    # A fetch that nobody waits for any more would go on at the next test's server.
    until(
        lambda: all(thread.name != "outboxkit-credentials" for thread in threading.enumerate()), what="fetches to end"
    )
