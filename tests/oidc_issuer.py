"""An OpenID issuer on this machine: discovery and key set over real HTTP, and any token, sound or broken."""

from __future__ import annotations

import json
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "https://worker.test"
ACCOUNT = "tasks@project.iam.gserviceaccount.com"
DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/keys"


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The private key of this name; the same one throughout the process, as making one takes its time."""
    del name
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def jwk(kid: str, key: rsa.RSAPrivateKey, **members: Any) -> dict[str, Any]:
    """The public half of a key, as a key set holds it."""
    described = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {"kty": "RSA", "n": described["n"], "e": described["e"], "kid": kid, "use": "sig", "alg": "RS256", **members}


def pem(key: rsa.RSAPrivateKey) -> bytes:
    """The public half of a key as text: what an attacker uses for a shared secret."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def rs256(key: rsa.RSAPrivateKey) -> Callable[[bytes], bytes]:
    """What signs with this key."""
    return lambda content: key.sign(content, padding.PKCS1v15(), hashes.SHA256())


def base64url(content: bytes) -> str:
    """RFC 7515 §2: without padding."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def compact(
    header: Mapping[str, Any] | bytes, claims: Mapping[str, Any] | bytes, sign: Callable[[bytes], bytes]
) -> str:
    """A token of any header, any claims and any signature; bytes stand in it as they are."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    content = ".".join(base64url(part) for part in parts)
    return f"{content}.{base64url(sign(content.encode()))}"


@dataclass(frozen=True)
class Document:
    """What is answered at one address."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0
    """Seconds between two bytes of the body; 0 sends it whole."""


class OidcIssuer:
    """Runs from the start; `keys` and `documents` may be changed at any time. `fetches` counts requests by path."""

    def __init__(self) -> None:
        self.keys = {"first": rsa_key("first")}
        self.cache_control: str | None = "public, max-age=3600"
        self.documents: dict[str, Document] = {}
        """What is answered in place of the proper document, by path."""
        self.fetches: Counter[str] = Counter()
        self._released = threading.Event()
        self._released.set()
        self._server = self._listen(0)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    # Its life.

    def down(self) -> None:
        """Refuse connections."""
        self._server.shutdown()
        self._server.server_close()

    def up(self) -> None:
        """Be there again, at the same address."""
        self._server = self._listen(self.port)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, requests arrive and are counted, and get no answer; they get it at the end."""
        self._released.clear()
        try:
            yield
        finally:
            self._released.set()

    def rotate(self, kid: str) -> None:
        """Drop every key, and sign with a new one."""
        self.keys = {kid: rsa_key(kid)}

    # What it says.

    def answer(self, path: str) -> Document:
        """The document at this path."""
        self.fetches[path] += 1
        assert self._released.wait(60)
        if path in self.documents:
            return self.documents[path]
        if path == DISCOVERY:
            return Document(json.dumps({"issuer": self.url, "jwks_uri": self.url + JWKS}).encode())
        if path == JWKS:
            headers = {} if self.cache_control is None else {"cache-control": self.cache_control}
            return Document(json.dumps({"keys": [jwk(k, v) for k, v in self.keys.items()]}).encode(), headers=headers)
        return Document(b"", 404)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a sound token, changed; None leaves one out."""
        now = int(time.time())
        sound = {
            "iss": self.url,
            "aud": AUDIENCE,
            "azp": "112233445566778899001",
            "sub": "112233445566778899001",
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
        return {name: value for name, value in (sound | changes).items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        """The header of a sound token, changed; None leaves one out."""
        sound = {"alg": "RS256", "kid": next(iter(self.keys)), "typ": "JWT"}
        return {name: value for name, value in (sound | changes).items() if value is not None}

    def token(self, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token that the issuer has signed, whatever it claims."""
        kid = next(iter(self.keys))
        return compact(self.header(**(header or {})), self.claims(**claims), rs256(self.keys[kid]))

    def _listen(self, port: int) -> ThreadingHTTPServer:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version: ClassVar[str] = "HTTP/1.1"

            def do_GET(self) -> None:
                document = issuer.answer(self.path)
                self.send_response(document.status)
                for name, value in {"content-length": str(len(document.body)), **document.headers}.items():
                    self.send_header(name, value)
                self.send_header("connection", "close")
                self.end_headers()
                if not document.pause:
                    self.wfile.write(document.body)
                    return
                for byte in document.body:
                    time.sleep(document.pause)
                    self.wfile.write(bytes([byte]))

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(ConnectionError):  # who asked has left
                    super().handle()

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server
