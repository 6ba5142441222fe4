"""The HTTP protocol of every role that listens, over sockets, with applications made to try it."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvicorn

from outboxkit_cli.http_protocol import HttpProtocol, UploadProtocol
from outboxkit_cli.serve import configuration
from outboxkit_worker.arrival import DEADLINE_EXTENSION
from waiting import until

App = Callable[[Any, Any, Any], Awaitable[None]]
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


class Hasty(UploadProtocol):
    """A body may take a minute, a head must not."""

    head_seconds = 0.3
    request_seconds = 60


class Server:
    """An application behind the protocol, in a thread."""

    def __init__(self, app: App, protocol: type[HttpProtocol]) -> None:
        async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                await app(scope, receive, send)
                return
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        self.server = uvicorn.Server(configuration(with_lifespan, grace=5, protocol=protocol))
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        until(lambda: self.server.started, what="the server to start")

    def connect(self) -> socket.socket:
        """A connection that waits 20 s for whatever it waits for."""
        return socket.create_connection(self.address, timeout=20)

    def stop(self) -> None:
        """End as uvicorn ends."""
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not end"


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Serve an application: `serve(app, protocol)`."""
    servers: list[Server] = []

    def start(app: App, protocol: type[HttpProtocol] = HttpProtocol) -> Server:
        servers.append(Server(app, protocol))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def a_head_is_late(server: Server) -> None:
    """Return when a head that began just now has been given up: so much time has passed."""
    with server.connect() as connection:
        connection.sendall(b"GET")
        assert everything(connection).startswith(b"HTTP/1.1 408 ")


async def answer(send: Any, body: bytes, *, more: bool = False) -> None:
    """Send a whole response, or the beginning of one."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def whole_body(receive: Any) -> bytes:
    """The body."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body, more = body + message["body"], message["more_body"]
    return body


async def counting(_scope: Any, receive: Any, send: Any) -> None:
    """Answers how many bytes the body has."""
    await answer(send, str(len(await whole_body(receive))).encode())


async def listing(scope: Any, receive: Any, send: Any) -> None:
    """Answers which headers it sees, once it has the body."""
    await whole_body(receive)
    names = [name.decode() for name, _ in scope["headers"]]
    await answer(send, json.dumps([names, list(scope["extensions"])]).encode())


def test_an_upload_may_be_slow(serve: Any) -> None:
    """Where a body is allowed a minute, the deadline for heads does not cut it."""
    server = serve(counting, Hasty)
    with server.connect() as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 6\r\n\r\nabc")
        a_head_is_late(server)
        a_head_is_late(server)
        connection.sendall(b"def")
        assert everything(connection).endswith(b"\r\n6\r\n0\r\n\r\n")


def test_reading_in_no_hurry(serve: Any) -> None:
    """While the application does not read, the client is not at fault."""
    go_on = threading.Event()

    async def idle(_scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(go_on.wait, 20)
        await answer(send, str(len(await whole_body(receive))).encode())

    class Strict(Hasty):
        request_seconds = 0.3

    server = serve(idle, Strict)
    size = 1_000_000
    with server.connect() as connection:
        sender = threading.Thread(
            target=connection.sendall,
            args=[HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size],
        )
        sender.start()
        a_head_is_late(server)
        a_head_is_late(server)
        go_on.set()
        sender.join(20)
        assert b"1000000" in everything(connection)


def test_a_request_has_all_of_its_time(serve: Any) -> None:
    """The wait for its first byte is not taken from it."""

    class Slow(HttpProtocol):
        head_seconds = 1.0

    with serve(counting, Slow).connect() as connection:
        assert select.select([connection], [], [], 0.2)[0] == []
        began = time.monotonic()
        connection.sendall(b"GET")
        assert everything(connection).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began > Slow.head_seconds - 0.1  # a loop's clock ticks in milliseconds


def test_the_application_is_told(serve: Any) -> None:
    """One whose request turns out to be malformed is told at once, as if the client had left; it is not heard any more."""

    class Patient(HttpProtocol):
        linger_seconds = 3600

    told: list[str] = []

    async def reading(_scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            told.append(message["body"].decode())
        told.append(message["type"])
        await answer(send, b"too late")

    with serve(reading, Patient).connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        until(lambda: told == ["abc"], what="the application to read")
        connection.sendall(b"nonsense")
        until(lambda: told == ["abc", "http.disconnect"], what="the application to be told")
        found = everything(connection)
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"too late" not in found


def test_every_request_is_told_that_the_client_has_left(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Also the one that is being answered while others wait behind it; what it writes then is no error."""
    told: list[str] = []
    written = threading.Event()

    async def waiting(_scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            told.append(message["type"])
        told.append(message["type"])
        await answer(send, b"to nobody")
        written.set()

    with serve(waiting).connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 3)
        until(lambda: told == ["http.request"], what="the first request to begin")
    assert written.wait(20)
    assert told == ["http.request", "http.disconnect"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_half_an_answer_is_no_whole_one(serve: Any) -> None:
    """A request that turns out to be malformed while it is answered: the connection closes, and nothing is added."""

    async def streaming(_scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"the beginning", more=True)
        while (await receive())["type"] == "http.request":
            pass

    with serve(streaming).connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        beginning = b""
        while not beginning.endswith(b"the beginning\r\n"):
            beginning += connection.recv(65_536)
        connection.sendall(b"nonsense")
        assert everything(connection) == b""


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"POST / HTTP/1.0", b"200"), (b"POST / HTTP/1.1", b"200"), (b"nonsense", b"400")],
    ids=["HTTP/1.0", "Connection: close", "a refusal"],
)
def test_a_last_answer_reaches_a_client_that_still_sends(serve: Any, line: bytes, status: bytes) -> None:
    """An answer that ends the connection is not lost because nobody reads what else comes."""

    async def refusing(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, b"no")

    server = serve(refusing)
    size = 5_000_000
    head = b"%b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (line, size)
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(head + b"x" * size)
            assert everything(connection).startswith(b"HTTP/1.1 " + status)


def test_trailers_are_no_headers(serve: Any) -> None:
    """What comes after the body is not added to what came before it."""
    with serve(listing).connect() as connection:
        connection.sendall(HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Late: y\r\n\r\n")
        assert b"x-late" not in everything(connection)


@pytest.mark.parametrize(("protocol", "promised"), [(HttpProtocol, True), (UploadProtocol, False)])
def test_who_keeps_the_deadline(serve: Any, protocol: type[HttpProtocol], promised: bool) -> None:
    """An application may leave the worker's deadline to the protocol that says it keeps it."""
    with serve(listing, protocol).connect() as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        assert (DEADLINE_EXTENSION.encode() in everything(connection)) is promised


def test_a_refused_client_does_not_hold_up_the_end(serve: Any) -> None:
    """The server ends although a client that was refused keeps its side open."""
    server = serve(counting)
    with server.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        server.stop()
