"""Bytes on a socket, for what no HTTP client would send."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import h11

from outboxkit_contracts.conformance.exchanges import Exchange, shell_writer
from outboxkit_contracts.conformance.outcomes import Failed
from outboxkit_contracts.conformance.probe import Probe
from outboxkit_contracts.validation import PROCESS_JOB

_READ: Final = 65536


class Wire:
    """One connection to the worker, on which anything can be sent."""

    def __init__(self, connection: socket.socket, probe: Probe) -> None:
        self._connection = connection
        self._probe = probe
        self._sent = b""
        self._rest = b""
        self.closed = False

    def send(self, content: bytes) -> None:
        """Send bytes as they are. A worker that has closed already is noticed when an answer is read."""
        self._sent += content
        try:
            self._connection.sendall(content)
        except OSError:
            self.closed = True

    def finish(self) -> None:
        """Send nothing more; answers can still be read."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            self.closed = True

    def answer(self, *, within: float | None = None) -> Exchange | None:
        """The next answer; None when the worker closes instead.

        What is not HTTP is a failure, and so is silence for so many seconds, the target's deadline by default.
        """
        exchange = self._probe.record("POST", PROCESS_JOB, (), b"")
        wanted = self._probe.target.deadline if within is None else within
        deadline = monotonic() + wanted
        parser = h11.Connection(h11.CLIENT)
        # The parser wants to know what was asked; the bytes that it makes of that are not sent.
        parser.send(h11.Request(method="POST", target="/", headers=[("host", "worker")]))
        parser.send(h11.EndOfMessage())
        if self._rest:
            parser.receive_data(self._rest)
        try:
            complete = self._receive(parser, exchange, deadline)
        except h11.RemoteProtocolError as error:
            raise Failed(f"what came back is no HTTP answer: {error}", command=self.command) from None
        except TimeoutError:
            raise Failed(f"neither an answer nor an end within {wanted:g} s", command=self.command) from None
        self._rest = parser.trailing_data[0]
        return exchange if complete else None

    @property
    def command(self) -> str:
        """A command line for bash that sends the same bytes and prints what comes back."""
        parts = urlsplit(self._probe.target.base)
        writer = _writer(self._sent, self._probe.target.secrets)
        if parts.scheme == "https":
            return f"{{ {writer}; }} | openssl s_client -quiet -connect {parts.hostname}:{parts.port or 443}"
        return f"exec 3<>/dev/tcp/{parts.hostname}/{parts.port or 80}; {{ {writer}; }} >&3; timeout 10 cat <&3"

    def _receive(self, parser: h11.Connection, exchange: Exchange, deadline: float) -> bool:
        """Read one answer into the exchange; whether there was one."""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = self._read(deadline)
                if not data and not exchange.status:
                    return False
                parser.receive_data(data)
            elif isinstance(event, h11.Response):
                exchange.status = event.status_code
                exchange.answered = tuple((name.decode(), value.decode("latin-1")) for name, value in event.headers)
            elif isinstance(event, h11.Data):
                exchange.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return True

    def _read(self, deadline: float) -> bytes:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        try:
            data = self._connection.recv(_READ)
        except (ConnectionError, ssl.SSLError):
            data = b""
        self.closed = self.closed or not data
        return data


def _writer(content: bytes, secrets: Sequence[tuple[str, str]]) -> str:
    """Commands that write these bytes, with shell variables in place of secrets."""
    for value, variable in secrets:
        before, found, after = content.partition(value.encode())
        if found:
            return f'{_writer(before, secrets)}; printf %s "${variable}"; {_writer(after, secrets)}'
    return shell_writer(content)


@contextmanager
def wire(probe: Probe) -> Iterator[Wire]:
    """Open a connection to the worker; it is closed at the end."""
    parts = urlsplit(probe.target.base)
    host, tls = parts.hostname or "", parts.scheme == "https"
    try:
        connection = socket.create_connection((host, parts.port or (443 if tls else 80)), probe.target.deadline)
    except OSError as error:
        raise Failed(f"no connection to {parts.netloc}: {error}") from None
    if tls:
        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    with connection:
        yield Wire(connection, probe)


def head(probe: Probe, *lines: str, credentials: bool = True, version: str = "HTTP/1.1") -> bytes:
    """A request's head for POST /process-job: the lines that every request needs, and these."""
    parts = urlsplit(probe.target.base)
    named = [*probe.target.headers, *(probe.credentials() if credentials else ())]
    all_lines = [
        f"POST {parts.path}{PROCESS_JOB} {version}",
        f"Host: {parts.netloc}",
        *(f"{name}: {value}" for name, value in named),
        *lines,
    ]
    return "".join(f"{line}\r\n" for line in all_lines).encode() + b"\r\n"


def refused(answer: Exchange | None, sent: Wire, why: str) -> None:
    """Raise `Failed` unless the request was refused: the connection closed, or any 4xx.

    That what is not HTTP is refused matters; a server or a load balancer in front of the worker may do it in its own words.
    """
    if answer is not None and not 400 <= answer.status < 500:
        raise Failed(f"{why} is to be refused; the answer is {answer.status}", answer, sent.command)


def chunks(content: bytes, sizes: Sequence[int]) -> bytes:
    """A body in chunks of these sizes, the last one of what is left, and the end."""
    written, start = b"", 0
    for size in [*sizes, len(content)]:
        piece = content[start : start + size]
        if piece:
            written += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        start += size
    return written + b"0\r\n\r\n"
