"""Those who enqueue one job and commit it: the kit, and its floors."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import text

from benchmarks import queries
from benchmarks.application import NOTHING, PAYLOAD
from benchmarks.arithmetic import shares
from benchmarks.database import Connection
from benchmarks.filling import Sessions
from outboxkit import enqueue
from outboxkit.traces import new as new_traceparent

# One job and its commit.
Producer: TypeAlias = Callable[[], Awaitable[None]]


async def produce(producers: Sequence[Producer], jobs: int) -> None:
    """Have all producers at once enqueue their share of the jobs, one after the other."""

    async def share(producer: Producer, count: int) -> None:
        for _ in range(count):
            await producer()

    async with asyncio.TaskGroup() as group:
        for producer, count in zip(producers, shares(jobs, len(producers)), strict=True):
            group.create_task(share(producer, count))


def kit(make: Sessions) -> Producer:
    """The kit, as a user calls it."""

    async def one() -> None:
        async with make.begin() as session:
            await enqueue(session, NOTHING, PAYLOAD)

    return one


def bare(make: Sessions) -> Producer:
    """The same transaction on the same engine, with one statement that writes both rows."""
    insert = text(queries.load("insert_both").decode())

    async def one() -> None:
        async with make.begin() as session:
            await session.execute(insert, row())

    return one


def statement(connection: Connection) -> Producer:
    """The statement alone, committed by itself."""
    insert = re.sub(rb":(\w+)", rb"%(\1)s", queries.load("insert_both"))

    async def one() -> None:
        await connection.execute(insert, row())

    return one


def function(connection: Connection) -> Producer:
    """The kit's SQL function, committed by itself."""
    call = queries.load("call_function")

    async def one() -> None:
        await (await connection.execute(call, row())).fetchone()

    return one


def row() -> dict[str, Any]:
    """One job's values."""
    return {
        "id": ascending_id(),
        "kind": NOTHING,
        "payload": msgspec.json.encode(PAYLOAD).decode(),
        "traceparent": new_traceparent(),
    }


def ascending_id() -> UUID:
    """A time and then chance, as version 7 has it: random ids would be slower to index, and no floor."""
    return UUID(int=(time.time_ns() // 1_000_000 << 80) | (uuid4().int & ((1 << 80) - 1)))
