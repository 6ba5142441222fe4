"""The HTTP floor: the relay's requests, sent by the same client, with nothing round them."""

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

import aiohttp

from benchmarks.application import NOTHING
from benchmarks.roles import SECRET
from outboxkit.traces import new as new_traceparent
from outboxkit_contracts import headers
from outboxkit_contracts.messages import encode_trigger

ACCEPTED = 202


def client(connections: int) -> aiohttp.ClientSession:
    """A keep-alive client with the headers that every trigger carries."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        headers={headers.CONTENT_TYPE: "application/json", headers.WORKER_TRIGGER: SECRET},
    )


async def post(session: aiohttp.ClientSession, url: str, body: bytes, traceparent: str) -> None:
    """One trigger, and its answer read; RuntimeError when it is not 202."""
    async with session.post(url, data=body, headers={headers.TRACEPARENT: traceparent}) as response:
        await response.read()
        if response.status != ACCEPTED:
            raise RuntimeError(f"{url} answered {response.status}; wanted {ACCEPTED}")


async def post_all(session: aiohttp.ClientSession, url: str, ids: Sequence[UUID], *, concurrency: int) -> float:
    """Post a trigger for each job, so many at a time; the seconds it took."""
    waiting = iter([(encode_trigger(each, NOTHING), new_traceparent()) for each in ids])

    async def sender() -> None:
        for body, traceparent in waiting:
            await post(session, url, body, traceparent)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(sender())
    return time.perf_counter() - started
