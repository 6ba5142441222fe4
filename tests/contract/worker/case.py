"""A request, byte for byte, and the answers that are due; and short words to write many of them down."""

from __future__ import annotations

from dataclasses import dataclass

from contract.worker import raw

MALFORMED = (400, "malformed-http")
UNREADABLE = (400, "malformed-request")
FORBIDDEN = (403, "forbidden")
NOT_FOUND = (404, "not-found")
UNKNOWN = (404, "unknown-job")
WRONG_METHOD = (405, "method-not-allowed")
TOO_LARGE = (413, "payload-too-large")
WRONG_TYPE = (415, "unsupported-media-type")
HEADERS = (431, "headers-too-large")

BODY = b'{"jobId": "0198c5a2-7c3e-7b11-9d5f-3f6a1c2b4d5e"}'
JSON = b"Content-Type: application/json"


@dataclass(frozen=True)
class Case:
    """`closes`: the worker must close the connection after its last answer."""

    name: str
    sent: bytes
    expected: tuple[int | tuple[int, str], ...]
    method: str = "POST"
    path: str = "/process-job"
    closes: bool = False


def to(method: str, path: str, expected: int | tuple[int, str], *lines: bytes) -> Case:
    """A request without a body."""
    return Case(f"{method} {path}", raw.request(method, path, *lines), (expected,), method, path)


def post(name: str, expected: tuple[int, str], *lines: bytes, body: bytes = BODY, **options: bool) -> Case:
    """A trigger with more header lines, or with another body."""
    return Case(name, raw.request("POST", "/process-job", *lines, body=body, **options), (expected,))


def posted(body: bytes, *lines: bytes) -> bytes:
    """A trigger whose body is framed by its own lines."""
    return raw.request("POST", "/process-job", JSON, *lines) + body


def refused(name: str, sent: bytes, expected: tuple[int, str] = MALFORMED) -> Case:
    """What is no request: the worker says so and closes."""
    return Case(name, sent, (expected,), closes=True)
