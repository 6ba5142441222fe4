"""A TCP proxy that stands between any two parts and misbehaves on command.

    async with Proxy(("127.0.0.1", worker_port), name="worker", seed=7) as proxy:
        ...  # clients talk to 127.0.0.1:proxy.port
        proxy.set(Fault.DROP)

Up is from the client to the upstream (requests), down the other way (answers). No fault makes a stream with a hole in it:
a connection that bytes were withheld from is reset as soon as the fault changes.
"""

import asyncio
import enum
import random
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self


class Fault(enum.Enum):
    """How the proxy behaves; `Delay` and `Answer` are the faults that need a value."""

    PASS = "pass"  # all goes through: bytes, ends of streams, resets; if the upstream refuses, the client is reset
    DROP = "drop"  # connections are accepted; nothing is forwarded either way, nothing is closed
    REFUSE = "refuse"  # connections are reset at once, new ones and existing ones
    RESET = "reset"  # existing connections are reset at once; new ones after a first chunk, which still gets through
    HALF_CLOSE = "half close"  # a FIN follows the next chunk of an answer; requests still go up, no more comes down
    CORRUPT = "corrupt"  # bits of answers are flipped, always one in the first byte of a chunk; lengths stay
    SWALLOW = "swallow"  # requests go up; answers and their ends are lost, and no side hears that the other failed


@dataclass(frozen=True)
class Delay:
    """Each chunk, either way, is held for so many seconds, or until the next fault decides about it; order is kept."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """HTTP only: a request that begins now is read whole, then answered with these bytes and its connection closed.

    The upstream hears nothing of it; an exchange under way ends as it would have. A body is read by its Content-Length: a
    client that sends it otherwise may see a reset instead of the answer.
    """

    content: bytes


AnyFault = Fault | Delay | Answer


def corrupted(chunk: bytes, chance: random.Random) -> bytes:
    """The chunk with one bit flipped in its first byte and in about one of 64 others."""
    damaged = bytearray(chunk)
    for position in {0, *chance.choices(range(len(chunk)), k=len(chunk) // 64)}:
        damaged[position] ^= 1 << chance.randrange(8)
    return bytes(damaged)


class Proxy:
    """Listens on 127.0.0.1 between entering and leaving; leaving resets every connection and leaves no task or socket.

    The upstream is an IPv4 address or the path of a Unix socket; port 0 takes a free one. Everything, `set` too, is to be
    called on one event loop.
    """

    def __init__(self, upstream: tuple[str, int] | Path, *, name: str, seed: int, port: int = 0) -> None:
        self.upstream, self.name, self.port = upstream, name, port
        self.chance = random.Random(seed)
        self.accepted = 0  # connections that came, refused ones included
        self.requests_answered = 0  # by Answer
        self.bytes_up = self.bytes_down = 0  # forwarded, corrupted ones included
        self.faulted = 0  # how often the present fault touched a connection or a chunk; `set` begins again at zero
        self.changed = asyncio.Event()
        self._fault: AnyFault = Fault.PASS
        self._open: dict[asyncio.Task[None], _Connection] = {}

    @property
    def fault(self) -> AnyFault:
        """How it behaves at present."""
        return self._fault

    def set(self, fault: AnyFault) -> None:
        """Behave so from now on, to new and existing connections; those that the same fault has stalled stay stalled."""
        cut, other = fault in (Fault.RESET, Fault.REFUSE), fault != self._fault
        living = [connection for connection in self._open.values() if not connection.doomed]
        self._fault, self.faulted = fault, len(living) if cut else 0
        for connection in living:
            if cut or (connection.withheld and other):
                connection.end()
        self.changed.set()
        self.changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        # A callback, not `sock_accept`: a cancellation could lose the connection that was just accepted.
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for connection in self._open.values():
            connection.end()
        if self._open:
            await asyncio.wait(list(self._open))

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.accepted += 1
        connection = _Connection(self, client)
        self._open[connection.task] = connection
        # Not at the end of its coroutine: that of a task cancelled before its first step is never reached.
        connection.task.add_done_callback(lambda task: self._open.pop(task).close())
        if self._fault is Fault.REFUSE:
            self.faulted += 1
            connection.end()


class _Connection:
    """One client's connection and the one to the upstream behind it; `close` is to be called when `task` has ended."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy, self._client = proxy, client
        self._upstream: socket.socket | None = None
        self._request = b""  # what Answer has read so far
        self._asked = False  # bytes went up last: an exchange is under way
        self._muted = False  # the client has got its FIN
        self._orderly = False  # it may be closed with FIN
        self.withheld = False  # there is a hole in one of its streams
        self.doomed = False  # nothing may be forwarded any more
        self._loop = asyncio.get_running_loop()
        self.task = self._loop.create_task(self._run(), name=f"proxy {proxy.name}, connection {proxy.accepted}")
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def end(self, *, orderly: bool = False) -> None:
        """Forward nothing from now on; FIN or RST leaves as soon as the tasks have let go of the sockets."""
        self.doomed, self._orderly = True, orderly
        self.task.cancel()

    def close(self) -> None:
        """Close both sides: with FIN after an orderly end, else with RST."""
        for side in filter(None, (self._client, self._upstream)):
            if not self._orderly:
                with suppress(OSError):  # lingering for no time makes the kernel send RST
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.close()

    async def _run(self) -> None:
        """Carry bytes until both streams have ended or one has failed; if that must stay hidden, wait to be ended."""
        try:
            async with asyncio.TaskGroup() as self._group:
                if self._proxy.fault is Fault.DROP:
                    self._withhold()
                elif not isinstance(self._proxy.fault, Answer):
                    await self._connect()
                await self._pump(self._client, down=False)
            self._orderly = True
        except* OSError:
            if self._proxy.fault in (Fault.DROP, Fault.SWALLOW):
                self._withhold()
        if self.withheld and not self.doomed:  # a task group that fails forgets that it was cancelled as well
            await asyncio.Event().wait()

    async def _connect(self) -> None:
        address = self._proxy.upstream
        self._upstream = socket.socket(socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET)
        self._upstream.setblocking(False)
        await self._loop.sock_connect(self._upstream, str(address) if isinstance(address, Path) else address)
        if not isinstance(address, Path):
            self._upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._group.create_task(self._pump(self._upstream, down=True))

    async def _pump(self, source: socket.socket, *, down: bool) -> None:
        chunk: bytes | None = None
        while chunk != b"":
            chunk = await self._loop.sock_recv(source, 65_536)
            await self._deal(chunk, down=down)
            await asyncio.sleep(0)  # neither call gives way while bytes keep coming, and others want their turn

    async def _deal(self, chunk: bytes, *, down: bool) -> None:
        """Do to a chunk what the present fault says; an empty one is the end of its stream."""
        if self.doomed:
            return
        match self._proxy.fault:
            case Fault.DROP:
                self._withhold()
            case Fault.SWALLOW if down:
                self._withhold()
            case Delay(seconds):
                self._proxy.faulted += 1
                changed = self._proxy.changed
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await changed.wait()
                await (self._deal if changed.is_set() else self._send)(chunk, down=down)
            case Answer(content) if chunk and not down and not self._asked:
                await self._answer(chunk, content)
            case Fault.CORRUPT if chunk and down:
                self._proxy.faulted += 1
                await self._send(corrupted(chunk, self._proxy.chance), down=True)
            case Fault.HALF_CLOSE if chunk and down and not self._muted:
                self._proxy.faulted += 1
                await self._send(chunk, down=True)
                await self._send(b"", down=True)
            case Fault.RESET if chunk:
                self._proxy.faulted += 1
                await self._send(chunk, down=down)
                self.end()
            case _:
                await self._send(chunk, down=down)

    def _withhold(self) -> None:
        self.withheld = True
        self._proxy.faulted += 1

    async def _answer(self, chunk: bytes, content: bytes) -> None:
        self._request += chunk
        self.withheld = True
        head, blank, body = self._request.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length:[ \t]*(\d+)", head)
        if blank and len(body) >= (int(length[1]) if length else 0):
            await self._loop.sock_sendall(self._client, content)
            self._proxy.requests_answered += 1
            self._proxy.faulted += 1
            self.end(orderly=True)

    async def _send(self, chunk: bytes, *, down: bool) -> None:
        if self._upstream is None and chunk:
            await self._connect()
        target = self._client if down else self._upstream
        if target is None or (down and self._muted):
            return
        if chunk:
            self._asked = not down
            await self._loop.sock_sendall(target, chunk)
            self._proxy.bytes_down += len(chunk) if down else 0
            self._proxy.bytes_up += 0 if down else len(chunk)
        else:
            self._muted |= down
            target.shutdown(socket.SHUT_WR)
