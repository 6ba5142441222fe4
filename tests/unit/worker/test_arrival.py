"""Reading a trigger's body under any server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outboxkit_contracts.messages import MAX_TRIGGER_BYTES
from outboxkit_worker.arrival import DEADLINE_EXTENSION, read_body
from outboxkit_worker.draining import Draining
from outboxkit_worker.trigger import TriggerEndpoint


def receiving(*messages: dict[str, Any]) -> Any:
    """A server that has these messages, and then nothing more for ever."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    """A piece of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


async def test_pieces_are_put_together() -> None:
    """However many there are; a message may leave its body out."""
    receive = receiving(part(b"a", more=True), {"type": "http.request", "more_body": True}, part(b"b", more=False))
    assert await read_body({}, receive, seconds=20) == b"ab"


async def test_too_much_is_not_read_to_its_end() -> None:
    """Past the limit there is no waiting for the rest."""
    receive = receiving(part(b"x" * MAX_TRIGGER_BYTES, more=True), part(b"x", more=True))
    assert await read_body({}, receive, seconds=20) is None


async def test_a_client_that_leaves() -> None:
    """Is told apart from a body."""
    with pytest.raises(ConnectionResetError):
        await read_body({}, receiving(part(b"x", more=True), {"type": "http.disconnect"}), seconds=20)


@pytest.mark.parametrize("messages", [[], [part(b"x", more=True)]])
async def test_a_body_that_does_not_come_is_408(messages: list[dict[str, Any]]) -> None:
    """Where no server keeps the deadline, the worker does, and asks for the connection to be closed."""
    sent: list[dict[str, Any]] = []
    endpoint = TriggerEndpoint(secrets=[], wait_max=1, draining=Draining(grace=1), read_seconds=0.01)
    scope: Any = {"method": "POST", "headers": [(b"content-type", b"application/json")]}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(20):
        await endpoint(scope, receiving(*messages), send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"request-timeout" in sent[1]["body"]


async def test_a_server_that_keeps_the_deadline_is_left_to_it() -> None:
    """No timer is paid for twice."""
    scope: Any = {"extensions": {DEADLINE_EXTENSION: {}}}
    reading = asyncio.ensure_future(read_body(scope, receiving(), seconds=0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not reading.done()
    reading.cancel()
