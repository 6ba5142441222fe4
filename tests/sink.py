"""A worker's address in a test's hands: a real server on a real socket that answers whatever the test wants."""

import asyncio
import inspect
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import msgspec

from outboxkit_contracts import Answer, Problem, ProblemType


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    lines: tuple[tuple[str, str], ...] = ()
    """Every header line as it came, the name in lower case."""
    connection: int = 0
    """Which connection it came on; the first is 1."""

    @property
    def job_id(self) -> UUID:
        """The job it is about."""
        return UUID(msgspec.json.decode(self.body)["jobId"])

    @property
    def kind(self) -> str:
        """The kind it names."""
        return str(msgspec.json.decode(self.body)["type"])


@dataclass(frozen=True)
class Reply:
    """An answer; `raw` is written as it is instead. `then` says what happens to the connection afterwards.

    keep: the next request may come. close, reset: it ends. silence: nothing more comes. endless: more comes for ever.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    then: str = "keep"

    def encoded(self) -> bytes:
        """The bytes to write."""
        if self.raw is not None:
            return self.raw
        lines = {"content-type": self.content_type, "content-length": str(len(self.body)), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {self.status} X\r\n{head}\r\n".encode() + self.body


Answering = Callable[[Request], Reply | Awaitable[Reply]]

RESET = Reply(raw=b"", then="reset")
SILENCE = Reply(raw=b"", then="silence")
GARBAGE = Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n", then="close")
HALF = Reply(
    raw=b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n{", then="close"
)


def accepted(request: Request) -> Reply:
    """What a worker answers at once."""
    answer = Answer(request.job_id, True, "running", False, "claimed")
    return Reply(202, answer.encode())


def problem(kind: ProblemType, *, detail: str = "because", retry_after: int | None = None) -> Reply:
    """A problem of the protocol."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Reply(kind.status, Problem.of(kind, detail).encode(), "application/problem+json", headers)


class Sink:
    """The server: `async with Sink(answering) as sink`; `answering` can be replaced at any time."""

    def __init__(self, answering: Answering = accepted, *, port: int = 0) -> None:
        """Listens on the loopback interface, on a free port unless one is given."""
        self.answering = answering
        self.requests: list[Request] = []
        self.connections = 0
        self.greeting = b""  # said to whoever connects, before anything is read
        self._open: set[asyncio.StreamWriter] = set()
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address, with the protocol's path."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/process-job"

    @property
    def job_ids(self) -> list[UUID]:
        """The jobs that were asked for, in order."""
        return [request.job_id for request in self.requests]

    async def say(self, unasked: bytes) -> None:
        """Write something on every open connection that nobody has asked for."""
        for writer in self._open:
            writer.write(unasked)
            await writer.drain()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, backlog=1024)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and drop every connection."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self.connections += 1
        number = self.connections
        try:
            writer.write(self.greeting)
            while await self._serve(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        request = await self._read(reader, number)
        self.requests.append(request)
        found: Any = self.answering(request)
        reply: Reply = await found if inspect.isawaitable(found) else found
        writer.write(reply.encoded())
        await writer.drain()
        if reply.then == "silence":
            await asyncio.Event().wait()
        while reply.then == "endless":
            writer.write(b"a" * 65536)
            await writer.drain()
        if reply.then == "reset":
            # Lingering for no time makes the kernel send RST instead of FIN.
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return reply.then == "keep"

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8").split("\r\n")
        method, path, _ = head[0].split(" ")
        split = (line.partition(":") for line in head[1:] if line)
        lines = tuple((name.lower(), value.strip()) for name, _, value in split)
        headers = dict(lines)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Request(method, path, headers, body, lines, number)


def free_port() -> int:
    """A port nobody listens on, just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
