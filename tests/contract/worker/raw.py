"""Bytes sent as they are to a worker's socket, and the answers in what comes back."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from outboxkit_contracts.problems import PROBLEM_JSON

DEADLINE = 30.0
"""Seconds until a worker that neither answers nor closes has failed the test."""

SECRET = "s3cret"
BLANK = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def slug(self) -> str | None:
        """The problem's type; None when it is no problem document, or has none as the answer to HEAD."""
        if not self.body or ("content-type", PROBLEM_JSON) not in self.headers:
            return None
        return str(self.json["type"]).rpartition(":")[2]

    @property
    def json(self) -> Any:
        """The document in the body."""
        return json.loads(self.body)

    @property
    def says_close(self) -> bool:
        """Whether it announces that the connection closes."""
        return ("connection", "close") in self.headers


@dataclass(frozen=True)
class Conversation:
    """All that came back, and whether the worker closed the connection."""

    answers: list[Answer]
    closed: bool

    @property
    def outline(self) -> list[int | tuple[int, str]]:
        """Each answer's status, with the problem's type if it is one."""
        return [(a.status, a.slug) if a.slug else a.status for a in self.answers]


def request(
    method: str = "POST",
    target: str = "/process-job",
    *lines: bytes,
    body: bytes | None = None,
    version: str = "1.1",
    json_type: bool = True,
    secret: bool = True,
) -> bytes:
    """A request with the worker's secret; a body comes with its length and its media type."""
    head = [f"{method} {target} HTTP/{version}".encode(), b"Host: worker"]
    if secret:
        head.append(b"x-worker-trigger: " + SECRET.encode())
    if body is not None:
        head.append(b"Content-Length: %d" % len(body))
        if json_type:
            head.append(b"Content-Type: application/json")
    return b"\r\n".join([*head, *lines]) + BLANK + (body or b"")


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A connection to the worker."""
    with socket.create_connection(address, timeout=DEADLINE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def converse(address: tuple[str, int], *pieces: bytes, answers: int = 1, methods: Iterable[str] = ()) -> Conversation:
    """Send the pieces, one write each, and read until so many answers are there or the worker closes."""
    with connected(address) as connection:
        send(connection, *pieces)
        return listen(connection, answers=answers, methods=methods)


def send(connection: socket.socket, *pieces: bytes) -> None:
    """Send each piece by itself; a worker that has closed meanwhile has said what it had to say."""
    for piece in pieces:
        try:
            connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return


def listen(connection: socket.socket, *, answers: int = 1, methods: Iterable[str] = ()) -> Conversation:
    """Read until so many answers are there or the worker closes; anything else within the deadline fails."""
    data = b""
    deadline = time.monotonic() + DEADLINE
    while True:
        found = parse(data, methods)
        if len(found) >= answers:
            return Conversation(found, closed=False)
        assert time.monotonic() < deadline, f"{len(found)} of {answers} answers within {DEADLINE:g} s"
        try:
            received = connection.recv(65_536)
        except ConnectionResetError:
            received = b""
        if not received:
            return Conversation(found, closed=True)
        data += received


def is_closed(connection: socket.socket) -> bool:
    """Wait until the worker closes; it may say no more before it does."""
    try:
        return connection.recv(65_536) == b""
    except ConnectionResetError:
        return True


def parse(data: bytes, methods: Iterable[str] = ()) -> list[Answer]:
    """The whole answers in what was received, without those in 1xx; `methods` are the requests', POST if not given."""
    found: list[Answer] = []
    asked = iter(methods)
    while BLANK in data:
        head, _, rest = data.partition(BLANK)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        status = int(status_line.split(" ")[1])
        headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        length = int(dict(headers).get("content-length", 0))
        if status < 200 or next(asked, "POST") == "HEAD":
            length = 0
        if len(rest) < length:
            break
        data = rest[length:]
        if status >= 200:
            found.append(Answer(status, headers, rest[:length]))
    return found
