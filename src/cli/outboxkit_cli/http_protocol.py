"""uvicorn's HTTP/1.1 with limits: what is malformed, too large or too slow is refused with a problem document.

The kit's documents promise problem+json and a deadline for every request. uvicorn by itself answers malformed HTTP in
plain text, reads header lines without end, and waits for ever for a request that has begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from outboxkit_contracts.messages import MAX_HEADER_BYTES, MAX_REQUEST_SECONDS, MAX_UPLOAD_SECONDS
from outboxkit_contracts.problems import PROBLEM_JSON, Problem, ProblemType
from outboxkit_worker.arrival import DEADLINE_EXTENSION

logger = logging.getLogger("outboxkit.http")

MAX_PIPELINED: Final = 100
"""Requests that may wait on one connection for the answers to earlier ones; the next is not read any more."""

_TOO_LARGE: Final = (ProblemType.HEADERS_TOO_LARGE, f"The header lines have more than {MAX_HEADER_BYTES:,} bytes.")


class HttpProtocol(HttpToolsProtocol):
    """One connection of a worker.

    A request at fault gets 400 `malformed-http`, 408 `request-timeout` or 431 `headers-too-large` once every earlier
    request on the connection has its answer; then the connection closes. Its application, if it was started already,
    is told that the client has left. A request that has arrived is never cut, however long its answer takes, nor is one
    that its application is in no hurry to read. A connection on which nothing arrives is closed without a word.

    What it uses of `HttpToolsProtocol`: `cycle` is the newest request whose head is complete; `pipeline` holds those
    that wait for an earlier answer, the newest first; `scope` belongs to the request that is arriving.
    """

    head_seconds: ClassVar[float] = MAX_REQUEST_SECONDS
    """From a request's first byte to the end of its head; a new connection has as long for its first byte."""

    request_seconds: ClassVar[float] = MAX_REQUEST_SECONDS
    """From a request's first byte to its last."""

    extensions: ClassVar[dict[str, dict[object, object]]] = {DEADLINE_EXTENSION: {}}
    """What an application may rely on."""

    linger_seconds: ClassVar[float] = 5
    """How long a client that was refused may go on sending: the answer would be lost if it met a closed socket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving = False
        self._began = 0.0
        self._read = 0
        # Bytes since the arriving request's first read, or since the last piece of its body: header lines, trailers
        # and chunk extensions, which httptools keeps or drops without asking.
        self._lines = 0
        self._clock: asyncio.TimerHandle | None = None
        self._deaf = False
        self._mute = False
        # The request that is being answered while others wait, and those others; uvicorn knows the newest alone.
        self._pipelined: deque[RequestResponseCycle] = deque(maxlen=MAX_PIPELINED + 1)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more: tell every request, or what it writes would be an error."""
        self._stop_clock()
        for cycle in self._pipelined:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on. A request that comes whole, as nearly every one does, starts no clock."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._read = len(data)
        if self._arriving:
            self._lines += self._read
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse_unreadable(error)
        else:
            self._keep_time()

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        super().on_message_begin()
        self._arriving = True
        self._lines = 0
        if self._clock is not None:
            self._began = self.loop.time()

    def on_headers_complete(self) -> None:
        """Start the request's application, unless the head is too large."""
        if self.parser.should_upgrade():
            return
        if self._lines + self._read > MAX_HEADER_BYTES and self._head_is_too_large():
            raise _Refused(*_TOO_LARGE)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Refused
        self.scope["extensions"] = self.extensions
        before = self.cycle
        super().on_headers_complete()
        if self.pipeline:
            self._pipelined.extend([before, self.cycle] if len(self.pipeline) == 1 else [self.cycle])
        self.headers = []  # for trailers: they are no headers (RFC 9110 §6.5.1), and nobody here asks for them
        if not self.cycle.keep_alive:
            self.cycle.transport = _ClosingTransport(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Hand over a piece of the body."""
        self._lines = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived."""
        if self.parser.should_upgrade():
            return
        self._arriving = False
        super().on_message_complete()

    def finish(self) -> None:
        """Close after a last answer; while its request is still arriving, only once the client could read the answer."""
        if not self._arriving:
            self.transport.close()
            return
        self.pipeline.clear()
        self._linger()

    def say(self, last_words: bytes) -> None:
        """Say this and leave, unless the last answer was the end already."""
        if self._mute or self.transport.is_closing():
            return
        self.transport.write(last_words)
        self._linger()

    def _head_is_too_large(self) -> bool:
        lines = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        return lines > MAX_HEADER_BYTES or len(self.url) > MAX_HEADER_BYTES

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Read the request once more without its Upgrade header, which a server may ignore (RFC 9110 §7.8).

        llhttp takes what follows that header for another protocol: the body would be lost, and read as a new request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(ProblemType.MALFORMED_HTTP, "This is no proxy: CONNECT asks for a tunnel.")
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % line for line in self.headers if line[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._arriving = False
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _keep_time(self) -> None:
        """Hold a request that has arrived in part to its deadline, and a connection without a request as well."""
        if self._arriving:
            if self._lines > MAX_HEADER_BYTES:
                self._refuse(*_TOO_LARGE)
            else:
                self._start_clock()
        elif self._is_idle():
            self._start_clock()
        else:
            self._stop_clock()

    def _start_clock(self) -> None:
        """Begin to wait for a request, or for the rest of one, if that has not begun."""
        if self._clock is None:
            self._began = self.loop.time()
            self._clock = self.loop.call_later(self.head_seconds, self._be_late)

    def _be_late(self) -> None:
        """The clock has run down; maybe it was set for the head, or ran while reading was paused, which is our doing."""
        now = self.loop.time()
        if self.flow.read_paused:
            self._began = now
        seconds = self.request_seconds if self._has_head() else self.head_seconds
        left = self._began + seconds - now
        if left > 0:
            self._clock = self.loop.call_later(left, self._be_late)
        elif self._arriving:
            part = "request did not arrive as a whole" if self._has_head() else "header lines did not arrive"
            self._refuse(ProblemType.REQUEST_TIMEOUT, f"The {part} within {seconds:g} seconds of the first byte.")
        else:
            self.transport.close()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _has_head(self) -> bool:
        """Whether the request that is arriving has a cycle already."""
        newest = self._newest
        return self._arriving and newest is not None and newest.scope is self.scope

    @property
    def _newest(self) -> RequestResponseCycle | None:
        return self.cycle  # which uvicorn declares without its None

    def _is_idle(self) -> bool:
        """Whether every request whose head has come has its answer; an answer is never overtaken by a later one."""
        newest = self._newest
        return newest is None or newest.response_complete

    def _refuse_unreadable(self, error: httptools.HttpParserError) -> None:
        refused = error.__context__
        if isinstance(refused, _Refused):
            if refused.args:
                self._refuse(*refused.args)
            else:
                self._leave_with(b"")
            return
        # What else fails in a callback is uvicorn's reading of the target.
        why = "its target has no path" if isinstance(error, httptools.HttpParserCallbackError) else error
        self._refuse(ProblemType.MALFORMED_HTTP, f"The request is not HTTP/1.1: {why}.")

    def _refuse(self, problem_type: ProblemType, detail: str) -> None:
        logger.warning("Refused a request: %s", detail)
        body = Problem.of(problem_type, detail).encode()
        self._leave_with(
            b"%bcontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[problem_type.status], PROBLEM_JSON.encode(), len(body), body)
        )

    def _leave_with(self, last_words: bytes) -> None:
        """Read no more; say the last words as soon as every earlier request has its answer, and leave."""
        self._deaf = True
        self._stop_clock()
        cycle = self.cycle
        if not self._has_head():
            if self._is_idle():
                self.say(last_words)
            else:
                cycle.on_response = lambda: self.say(last_words)
        elif self.pipeline and self.pipeline[0][0] is cycle:
            cycle.disconnected = True
            self.pipeline[0] = (cycle, _LastWords(self, last_words))
        elif cycle.response_started:
            self.transport.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self.say(last_words)

    def _linger(self) -> None:
        """Say that nothing more comes, and listen until the client leaves or its time is up."""
        self._deaf = self._mute = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._stop_clock()
        self._clock = self.loop.call_later(self.linger_seconds, self.transport.abort)


class UploadProtocol(HttpProtocol):
    """One connection of a role that takes uploads: a body may be slow to arrive, a head may not."""

    request_seconds: ClassVar[float] = MAX_UPLOAD_SECONDS
    extensions: ClassVar[dict[str, dict[object, object]]] = {}


class _Refused(Exception):  # noqa: N818  (no error: it ends the parsing)
    """Raised in a parser's callback, where httptools wraps it: a problem's type and detail; nothing to say nothing."""


class _ClosingTransport:
    """What a request writes to when its answer is the connection's last."""

    def __init__(self, protocol: HttpProtocol) -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.finish


class _LastWords:
    """The application of a request that was taken back while it waited for its turn."""

    def __init__(self, protocol: HttpProtocol, text: bytes) -> None:
        self._protocol = protocol
        self._text = text

    async def __call__(self, _scope: Any, _receive: Any, _send: Any) -> None:
        self._protocol.say(self._text)
