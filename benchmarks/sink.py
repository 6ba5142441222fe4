"""A worker that says 202 to everything, as fast as Python can: what a relay is measured against.

Run in a process of its own: `python -m benchmarks.sink FD`, FD being a listening socket that it inherits.
"""

import asyncio
import socket
import sys
from typing import cast

from outboxkit_cli.start import loop_factory, stop_event

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"
JOB_ID = b'"jobId":"'
UUID_LENGTH = 36
BODY = b'{"jobId":"%b","accepted":true,"state":"running","duplicate":false,"message":""}'
HEAD = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def answer(job_id: bytes) -> bytes:
    """The whole HTTP answer about this job."""
    body = BODY % job_id
    return HEAD % len(body) + body


def split_request(received: bytes) -> tuple[bytes, bytes] | None:
    """The first request's body, and what came after it; None while the request is not whole."""
    end = received.find(END_OF_HEAD)
    if end < 0:
        return None
    head = received[:end].lower()
    at = head.find(LENGTH)
    length = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    start = end + len(END_OF_HEAD)
    if len(received) < start + length:
        return None
    return received[start : start + length], received[start + length :]


class Sink(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, but not by inheritance

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole now."""
        self._received += data
        while (request := split_request(self._received)) is not None:
            body, self._received = request
            start = body.find(JOB_ID) + len(JOB_ID)
            assert self._transport is not None
            self._transport.write(answer(body[start : start + UUID_LENGTH]))


async def serve(descriptor: int) -> None:
    """Answer until SIGTERM."""
    stop = stop_event()
    listener = socket.socket(fileno=descriptor)
    server = await asyncio.get_running_loop().create_server(Sink, sock=listener)
    async with server:
        await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(int(sys.argv[1])))
