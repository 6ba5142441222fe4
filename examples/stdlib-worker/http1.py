"""HTTP/1.1 for the worker: strict where leniency is dangerous, and bounded in bytes and in time."""

from __future__ import annotations

import io
import re
import socket
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from threading import Condition
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

IDLE_SECONDS = 10.0
"""How long a connection may wait for its next request. Longer than a relay keeps an idle one."""
REQUEST_SECONDS = 20.0
"""How long a request may take to arrive, from its first byte to its last."""
HEADER_BYTES = 32 * 1024
"""The longest head that is read."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")


class BadRequest(Exception):  # noqa: N818 (named as HTTP names it)
    """The request cannot be read, and nor can whatever comes after it; `slug` is the protocol's word for why."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail


def malformed(detail: str) -> BadRequest:
    """What is no HTTP, or says two things about its length."""
    return BadRequest("malformed-http", detail)


@dataclass(frozen=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes = b""
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What came before the body; `read_body` reads that, once and if it is wanted."""

    method: str
    path: str
    headers: dict[str, str]
    """By name in lower case; several of one name are joined with commas (RFC 9110 §5.3)."""
    read_body: Callable[[int], bytes]
    """At most so many bytes; raises BadRequest when there are more."""


class TimedReader(io.RawIOBase):
    """A socket's bytes until a deadline (monotonic time), however slowly they come."""

    def __init__(self, connection: socket.socket) -> None:
        self.deadline = 0.0
        self._connection = connection

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there; raises TimeoutError past the deadline."""
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Head:
    """Lines that end with CRLF, which nothing else stands for; together they are no longer than a head may be."""

    def __init__(self, source: io.BufferedReader) -> None:
        self._source = source
        self._left = HEADER_BYTES

    def read_line(self) -> bytes:
        """Read one, without its CRLF. Raises BadRequest, and ConnectionResetError when the client went away in it."""
        line = self._source.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise BadRequest("headers-too-large", f"The header lines have more than {HEADER_BYTES:,} bytes.")
        if not line.endswith(b"\n"):
            raise ConnectionResetError
        if not line.endswith(b"\r\n"):
            raise malformed("Lines end with CR and LF.")
        return line[:-2]


class Connection(socketserver.BaseRequestHandler):
    """One client's requests, one after the other."""

    server: Server
    request: socket.socket

    def handle(self) -> None:
        """Answer until the client goes away, or one of its requests cannot be read to its end."""
        self._raw = TimedReader(self.request)
        self._input = io.BufferedReader(self._raw)
        try:
            while self._exchange():
                pass
        except OSError:  # a TimeoutError too: gone, or too slow to be waited for
            return

    def _exchange(self) -> bool:
        """One request and its answer; False: it was the last."""
        self._raw.deadline = monotonic() + IDLE_SECONDS
        if not self._input.peek(1):
            return False
        self._raw.deadline = monotonic() + REQUEST_SECONDS
        with self.server.exchange():
            keep = self._answer()
        if not keep:
            self._linger()
        return keep

    def _answer(self) -> bool:
        self._body: Body | None = None
        method, keep = "", False
        try:
            request, keep = self._read_head()
            method = request.method
            response = self.server.answer(request)
        except BadRequest as error:
            response = self.server.refuse(error)
        except TimeoutError:
            late = f"The request did not arrive within {REQUEST_SECONDS:g} seconds."
            response = self.server.refuse(BadRequest("request-timeout", late))
        keep = keep and self._body is not None and self._body.is_over()
        self._send(response, with_body=method != "HEAD", keep=keep)
        return keep

    def _read_head(self) -> tuple[Request, bool]:
        head = Head(self._input)
        method, target, minor = self._read_request_line(head)
        headers = self._read_headers(head)
        if minor and ("host" not in headers or "," in headers["host"]):
            raise malformed("There must be one header Host.")
        self._body = Body(self._input, headers, is_http_11=minor > 0, on_read=self._continue(headers))
        options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
        keep = minor > 0 and "close" not in options
        return Request(method, _path(target), headers, self._body.read), keep

    def _read_request_line(self, head: Head) -> tuple[str, str, int]:
        match = _REQUEST_LINE.fullmatch(head.read_line())
        if match is None:
            raise malformed("The first line is not METHOD TARGET HTTP/1.1.")
        return match[1].decode(), match[2].decode("latin-1"), int(match[3])

    def _read_headers(self, head: Head) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := head.read_line():
            match = _HEADER.fullmatch(line)
            if match is None:
                raise malformed("A header is malformed.")
            name, value = match[1].decode().lower(), match[2].decode("latin-1").rstrip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def _continue(self, headers: dict[str, str]) -> Callable[[], None]:
        """Ask for the body only when it is wanted (RFC 9110 §10.1.1)."""
        expects = headers.get("expect", "").lower() == "100-continue"
        return lambda: self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n") if expects else None

    def _send(self, response: Response, *, with_body: bool, keep: bool) -> None:
        headers = {"Date": formatdate(usegmt=True), **response.headers}
        if response.status != HTTPStatus.NO_CONTENT:
            headers |= {"Content-Type": response.media_type, "Content-Length": str(len(response.body))}
        if not keep:
            headers["Connection"] = "close"
        phrase = HTTPStatus(response.status).phrase
        lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self.request.settimeout(REQUEST_SECONDS)
        self.request.sendall(head + (response.body if with_body else b""))

    def _linger(self) -> None:
        """Read on for a moment after the last answer: closing on unread bytes would reset it away from the client."""
        self.request.shutdown(socket.SHUT_WR)
        self._raw.deadline = monotonic() + 2.0
        left = 1024 * 1024
        while left > 0 and (read := len(self._input.read1(64 * 1024))):
            left -= read


class Body:
    """A request's body, framed by Content-Length or in chunks, never by both (RFC 9112 §6.3: request smuggling)."""

    def __init__(
        self, source: io.BufferedReader, headers: dict[str, str], *, is_http_11: bool, on_read: Callable[[], None]
    ) -> None:
        self._source = source
        self._lines = Head(source)
        self._on_read = on_read
        self._is_read = False
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is not None and (length is not None or not is_http_11):
            raise malformed("Transfer-Encoding goes neither with Content-Length nor with HTTP/1.0.")
        if coding is not None and coding.lower() != "chunked":
            raise malformed("The only Transfer-Encoding understood is chunked.")
        if length is not None and not re.fullmatch("[0-9]{1,15}", length):
            raise malformed("Content-Length is no number.")
        self._length = None if coding is not None else int(length or "0")

    def is_over(self) -> bool:
        """Whether what comes next on the connection is another request."""
        return self._is_read or self._length == 0

    def read(self, limit: int) -> bytes:
        """Read the body; raises BadRequest."""
        too_large = BadRequest("payload-too-large", f"The body has more than {limit:,} bytes.")
        if self._length is not None and self._length > limit:
            raise too_large
        self._on_read()
        body = self._read_chunks(limit, too_large) if self._length is None else self._read_exactly(self._length)
        self._is_read = True
        return body

    def _read_exactly(self, count: int) -> bytes:
        data = self._source.read(count)
        if len(data) < count:
            raise ConnectionResetError
        return data

    def _read_chunks(self, limit: int, too_large: BadRequest) -> bytes:
        body = b""
        while size := self._read_chunk_size():
            if len(body) + size > limit:
                raise too_large
            body += self._read_exactly(size)
            if self._read_exactly(2) != b"\r\n":
                raise malformed("A chunk is longer than it says.")
        while self._lines.read_line():
            pass  # trailers, which nobody asks for
        return body

    def _read_chunk_size(self) -> int:
        match = _CHUNK.fullmatch(self._lines.read_line())
        if match is None:
            raise malformed("A chunk's size is malformed.")
        return int(match[1], 16)


def _path(target: str) -> str:
    """The path of a request's target, which may be a whole URL (RFC 9112 §3.2.2)."""
    try:
        return urlsplit(target).path or "/" if "://" in target else target.partition("?")[0]
    except ValueError:
        raise malformed("The target is no URL.") from None


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection. `answer` and `refuse` make the answers, and never raise."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[Request], Response],
        refuse: Callable[[BadRequest], Response],
    ) -> None:
        self.answer = answer
        self.refuse = refuse
        self._exchanges = 0
        self._changed = Condition()
        super().__init__(address, Connection)

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Count a request from its first byte to the last one of its answer."""
        with self._changed:
            self._exchanges += 1
        try:
            yield
        finally:
            with self._changed:
                self._exchanges -= 1
                self._changed.notify_all()

    def stop(self, within: float) -> None:
        """Accept nothing more, and return when every answer is sent, or after so many seconds."""
        self.shutdown()
        self.server_close()
        with self._changed:
            self._changed.wait_for(lambda: not self._exchanges, timeout=within)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection, and answer on it without delay."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address
