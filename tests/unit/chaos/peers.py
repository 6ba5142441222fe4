"""Who talks through the proxy in its tests: an echoing server and a client, both on raw sockets."""

import asyncio
import socket
import struct
from pathlib import Path
from typing import Self, cast

import pytest

from chaos.proxy import Answer, Delay, Fault, Proxy
from sink import Reply
from waiting import until_async

WITHIN = 20.0
SEED = 7
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
SERVED = Reply(200, b"served", "text/plain")
BUSY = Answer(b"HTTP/1.1 503 Busy\r\nretry-after: 9\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy")
RST_ON_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
EVERY_FAULT = [*Fault, Delay(0.01), BUSY]


class Echo(asyncio.Protocol):
    """One connection of an echo server's."""

    def __init__(self, server: "EchoServer") -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's says that it is none
        self._server.open.add(self._transport)
        self._server.accepted += 1

    def data_received(self, data: bytes) -> None:
        """Keep it and send it back."""
        self._server.received += data
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep how it ended."""
        self._server.open.discard(self._transport)
        self._server.ends.append(exc)


class EchoServer:
    """Sends back what it gets, on a free port or at the path of a Unix socket; keeps that, and how its connections ended."""

    def __init__(self, path: Path | None = None) -> None:
        self.accepted = 0
        self.received = b""
        self.open: set[asyncio.Transport] = set()
        self.ends: list[Exception | None] = []
        self._path = path

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._path is None:
            self._server = await loop.create_server(lambda: Echo(self), "127.0.0.1", 0)
        else:
            self._server = await loop.create_unix_server(lambda: Echo(self), self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for transport in list(self.open):
            transport.abort()
        await until_async(lambda: not self.open, what="the echo server's connections to end", within=WITHIN)
        await self._server.wait_closed()

    @property
    def address(self) -> tuple[str, int] | Path:
        """Where it listens."""
        return self._path or ("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def got(self, data: bytes) -> None:
        """Returns when it has received just this, all connections together."""
        await until_async(lambda: self.received == data, what=f"{data!r} to reach the server", within=WITHIN)


class Client:
    """A plain TCP client; everything it waits for fails after a time."""

    def __init__(self, port: int, *, buffer: int | None = None) -> None:
        """The buffer is what the kernel keeps for it until it reads; without one, what the kernel likes."""
        self._port = port
        self._buffer = buffer

    async def __aenter__(self) -> Self:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if self._buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        try:
            async with asyncio.timeout(WITHIN):
                await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
        except BaseException:
            self._socket.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        async with asyncio.timeout(WITHIN):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self, count: int) -> bytes:
        """So many bytes, or fewer if the stream ends before. Raises ConnectionResetError if it is reset."""
        data = b""
        async with asyncio.timeout(WITHIN):
            while len(data) < count and (
                chunk := await asyncio.get_running_loop().sock_recv(self._socket, count - len(data))
            ):
                data += chunk
        return data

    async def ask(self, data: bytes) -> bytes:
        """Send it and read as many bytes."""
        await self.send(data)
        return await self.receive(len(data))

    async def is_reset(self) -> None:
        """Returns when an RST has come; fails at a FIN or at a byte."""
        with pytest.raises(ConnectionResetError):
            await self.receive(1)

    def finish(self) -> None:
        """Send a FIN."""
        self._socket.shutdown(socket.SHUT_WR)

    def hears_nothing(self) -> bool:
        """Whether neither a byte nor an end has come so far."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False


async def felt(proxy: Proxy, times: int = 1) -> None:
    """Returns when the present fault has touched something so many times."""
    await until_async(lambda: proxy.faulted >= times, what=f"{proxy.fault} to be felt", within=WITHIN)


async def refused(port: int) -> None:
    """Returns when a new connection was accepted and reset; a client may see that while it connects still."""
    with pytest.raises(ConnectionResetError):
        async with Client(port) as client:
            await client.receive(1)


async def heals(proxy: Proxy) -> None:
    """After PASS a new connection works, and the fault before is not counted any more."""
    proxy.set(Fault.PASS)
    assert (proxy.fault, proxy.faulted) == (Fault.PASS, 0)
    async with Client(proxy.port) as client:
        assert await client.ask(b"healed") == b"healed"
    await until_async(lambda: not proxy._open, what="the proxy's connections to end", within=WITHIN)
