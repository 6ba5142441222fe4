"""HTTP itself: what a client library does not send, and a broken or hostile one does."""

from __future__ import annotations

import json
from time import monotonic
from typing import Final
from uuid import uuid4

from outboxkit_contracts.conformance.outcomes import Failed
from outboxkit_contracts.conformance.probe import Probe, described, expect
from outboxkit_contracts.conformance.suite import check
from outboxkit_contracts.conformance.target import Level
from outboxkit_contracts.conformance.wire import Wire, chunks, head, refused, wire
from outboxkit_contracts.messages import MAX_HEADER_BYTES, MAX_REQUEST_SECONDS

_POST: Final = "#/paths/~1process-job/post"
_LIMITS: Final = "#/info/description"
_TYPE: Final = "Content-Type: application/json"
# What a worker may take longer than its limit to notice that a request does not go on.
_SLACK: Final = 10.0


def _body() -> bytes:
    return json.dumps({"jobId": str(uuid4())}).encode()


def _understood(probe: Probe, sent: Wire, why: str) -> None:
    answer = sent.answer()
    if answer is None:
        raise Failed(f"the worker closed the connection; 404 unknown-job is due for {why}", command=sent.command)
    probe.judge(answer)
    if (answer.status, answer.slug) != (404, "unknown-job"):
        raise Failed(f"404 unknown-job is due for {why}; the answer is {described(answer)}", answer, sent.command)


def _alive(probe: Probe, why: str) -> None:
    expect(probe.post(_body()), 404, "unknown-job", f"a trigger that follows {why}")


@check("http.chunked", f"{_POST}/requestBody", level=Level.FULL)
def chunked(probe: Probe) -> None:
    """A body that comes in chunks, and in pieces, is read."""
    body = _body()
    with wire(probe) as connection:
        connection.send(head(probe, _TYPE, "Transfer-Encoding: chunked"))
        for piece in (chunks(body, [1, 2, 20])[:30], chunks(body, [1, 2, 20])[30:]):
            connection.send(piece)
        _understood(probe, connection, "a body in chunks")


@check("http.kept", _POST, level=Level.FULL)
def kept(probe: Probe) -> None:
    """Requests on one connection are answered in order, in a pipeline too."""
    body = _body()
    request = head(probe, _TYPE, f"Content-Length: {len(body)}") + body
    other = head(probe, _TYPE, "Content-Length: 1") + b"x"
    with wire(probe) as connection:
        connection.send(request)
        _understood(probe, connection, "the first request of a connection")
        connection.send(request + other + request)
        _understood(probe, connection, "the second request of a connection")
        second = connection.answer()
        if second is None or second.status != 400:
            raise Failed("the third request was malformed; its answer is not 400", second, connection.command)
        _understood(probe, connection, "the fourth request of a connection")


@check("http.version-1.0", _POST, level=Level.FULL)
def version_1_0(probe: Probe) -> None:
    """HTTP/1.0 is answered, and the connection closed."""
    body = _body()
    with wire(probe) as connection:
        connection.send(head(probe, _TYPE, f"Content-Length: {len(body)}", version="HTTP/1.0") + body)
        _understood(probe, connection, "an HTTP/1.0 request")
        if connection.answer() is not None:
            raise Failed("the connection stays open after an HTTP/1.0 request", command=connection.command)


@check("http.expect", _POST, level=Level.FULL)
def expect_continue(probe: Probe) -> None:
    """A client that asks first (`Expect: 100-continue`) is answered."""
    body = _body()
    with wire(probe) as connection:
        connection.send(head(probe, _TYPE, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        connection.send(body)
        _understood(probe, connection, "a request with Expect: 100-continue")


@check("http.lengths", _LIMITS, level=Level.FULL)
def lengths(probe: Probe) -> None:
    """A request that says two things about its length is refused."""
    body = _body()
    for lines in (
        (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 0"),
        (f"Content-Length: {len(body)}", f"Content-Length: {len(body) - 1}"),
        (f"Content-Length: -{len(body)}",),
        ("Transfer-Encoding: chunked, identity",),
    ):
        with wire(probe) as connection:
            connection.send(head(probe, _TYPE, *lines) + chunks(body, []))
            connection.finish()
            answer = connection.answer()
            refused(answer, connection, f"a request with {' and '.join(lines)}")
            if answer is not None and answer.slug == "unknown-job":
                raise Failed(f"a request with {' and '.join(lines)} was read", answer, connection.command)


@check("http.no-http", _LIMITS, level=Level.FULL)
def no_http(probe: Probe) -> None:
    """What is not HTTP is refused, and does no harm."""
    for what, content in {
        "rubbish": b"\x00\xff" * 20 + b"\r\n\r\n",
        "a TLS greeting": bytes.fromhex("16030100c8010000c40303") + b"\0" * 20,
        "a line without a colon": head(probe, "no colon here"),
        "a NUL in a header": head(probe, "X-Note: a\0b", "Content-Length: 0"),
        "an unknown version": head(probe, "Content-Length: 0", version="HTTP/9.9"),
        "a bad chunk size": head(probe, _TYPE, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
    }.items():
        with wire(probe) as connection:
            connection.send(content)
            connection.finish()
            refused(connection.answer(), connection, what)
        _alive(probe, what)


@check("http.broken-off", _LIMITS, level=Level.FULL)
def broken_off(probe: Probe) -> None:
    """A client that stops in the middle, or goes away there, keeps nobody waiting."""
    for content in (b"POST /process", head(probe, _TYPE, "Content-Length: 500") + b'{"jobId":'):
        with wire(probe) as connection:
            connection.send(content)
            _alive(probe, "half a request on another connection")
        _alive(probe, "a request that was broken off")


@check("http.large-head", f"{_POST}/responses/431", level=Level.FULL)
def large_head(probe: Probe) -> None:
    """More header lines than 32,768 bytes are refused."""
    body = _body()
    for lines in (
        [f"X-Filler: {'x' * MAX_HEADER_BYTES}"],
        [f"X-Filler-{number}: {'x' * 80}" for number in range(MAX_HEADER_BYTES // 80)],
    ):
        with wire(probe) as connection:
            connection.send(head(probe, _TYPE, f"Content-Length: {len(body)}", *lines) + body)
            answer = connection.answer()
            refused(answer, connection, "a head of more than 32,768 bytes")
            if answer is not None and answer.slug == "unknown-job":
                raise Failed("a head of more than 32,768 bytes was read", answer, connection.command)


@check("http.slow", f"{_POST}/responses/408", level=Level.FULL)
def slow(probe: Probe) -> None:
    """A request that does not go on is given up: 408, or the connection closes."""
    body = head(probe, _TYPE, "Content-Length: 500") + b'{"jobId":'
    with wire(probe) as in_head, wire(probe) as in_body:
        in_head.send(body[:40])
        in_body.send(body)
        started = monotonic()
        for connection in (in_head, in_body):
            answer = connection.answer(within=started + MAX_REQUEST_SECONDS + _SLACK - monotonic())
            if answer is not None and answer.status != 408:
                raise Failed(f"408 is due for a request that stops; the answer is {answer.status}", answer)
