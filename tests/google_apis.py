"""Google's token endpoint and its IAM Credentials API on this machine, and credential files that lead there.

google-auth lets nobody choose where the IAM Credentials API is. So it goes through a proxy, as it does in many a company,
and this proxy answers in the API's name, with a certificate that REQUESTS_CA_BUNDLE makes known.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from metadata_server import MetadataServer

IAM = "iamcredentials.googleapis.com"
CALLER = "caller@project.iam.example"
TARGET = "relay@project.iam.example"


class Handler(BaseHTTPRequestHandler):
    """A proxy, the token endpoint and the API in one; says nothing on the terminal."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_CONNECT(self) -> None:
        """Become what was asked for."""
        assert self.path == f"{IAM}:443", self.path
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.owner.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def finish(self) -> None:
        """Close the TLS connection too, which the server does not know."""
        super().finish()
        self.connection.close()

    def do_POST(self) -> None:
        """Make a token, or refuse."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status, answer = self.server.owner.answer(self.path, body, self.headers.get("Authorization", ""))
        encoded = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def do_GET(self) -> None:
        """google-auth asks where an account may be used; nobody says."""
        self.send_error(404)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the name it is called with)
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Its connections end with it."""

    daemon_threads = True
    block_on_close = False
    owner: GoogleApis

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever went away in the middle was meant to."""


class GoogleApis:
    """The servers: `with GoogleApis(mint, folder) as google`; `mint` makes the tokens.

    `answers`: a status and a body in place of a token, by the last part of the path. `asked` counts by the same.
    """

    def __init__(self, mint: MetadataServer, folder: Path) -> None:
        self.mint = mint
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, tuple[int, Any]] = {}
        self.certificate, key = certificate(folder, IAM)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)
        self._given: set[str] = set()
        self._account_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.owner = self

    def __enter__(self) -> GoogleApis:
        """Answer."""
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach the API here."""
        return {"HTTPS_PROXY": self.url, "REQUESTS_CA_BUNDLE": str(self.certificate), "NO_PROXY": "127.0.0.1"}

    def key_file(self) -> Path:
        """A service account's key, as one downloads it."""
        return self._write("key.json", self._key(CALLER))

    def impersonation_file(self) -> Path:
        """The impersonation of another account by that service account."""
        target = f"https://{IAM}/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken"
        content = {
            "type": "impersonated_service_account",
            "service_account_impersonation_url": target,
            "source_credentials": self._key(CALLER),
            "delegates": [],
        }
        return self._write("impersonation.json", content)

    def user_file(self) -> Path:
        """What gcloud leaves of a person's login."""
        content = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
        return self._write("user.json", content)

    def answer(self, path: str, body: bytes, authorization: str) -> tuple[int, Any]:
        """What is answered to a POST."""
        what = path.rpartition(":")[2].rpartition("/")[2]
        self.asked[what] += 1
        if what in self.answers:
            return self.answers[what]
        if what == "token":
            return 200, self._exchanged(parse_qs(body.decode())["assertion"][0])
        if authorization.removeprefix("Bearer ") not in self._given:
            return 401, {"error": "who are you?"}
        asked = json.loads(body)
        if what == "generateIdToken":
            assert asked["includeEmail"] is True
            return 200, {"token": self.mint.id_token(asked["audience"], email=TARGET)}
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.mint.lifetime)
        return 200, {"accessToken": self._access_token(), "expireTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def _exchanged(self, assertion: str) -> dict[str, Any]:
        here = [f"{self.url}/token", "https://oauth2.googleapis.com/token"]  # an assertion may name either
        claims = jwt.decode(assertion, self._account_key.public_key(), ["RS256"], audience=here)
        if "target_audience" in claims:
            return {"id_token": self.mint.id_token(claims["target_audience"], email=claims["iss"])}
        return {"access_token": self._access_token(), "expires_in": int(self.mint.lifetime), "token_type": "Bearer"}

    def _access_token(self) -> str:
        token = str(self.mint.access_token()["access_token"])
        self._given.add(token)
        return token

    def _key(self, account: str) -> dict[str, str]:
        return {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": _pem(self._account_key).decode(),
            "client_email": account,
            "token_uri": f"{self.url}/token",
        }

    def _write(self, name: str, content: dict[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content))
        return path


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate for this host, its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    local = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - hour, now + 24 * hour)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host), local]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{host}.pem", folder / f"{host}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(_pem(key))
    return files


def _pem(key: Any) -> bytes:
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded
