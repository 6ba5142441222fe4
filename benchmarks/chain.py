"""The floor of latency: the steps from an enqueue to a claim, one after the other, with nothing between them."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Self
from uuid import UUID

import aiohttp
import psycopg

from benchmarks import floors, queries
from benchmarks.application import NOTHING
from benchmarks.database import Connection
from benchmarks.posting import post
from benchmarks.producers import row
from outboxkit.traces import new as new_traceparent
from outboxkit.wakeups import CHANNEL
from outboxkit_contracts.messages import encode_trigger

COMMIT = "commit"
CLAIM = "claim of the job"


class Chain:
    """A commit; NOTIFY, heard by LISTEN; in http mode the claim of the trigger and its POST; the claim of the job.

    The connections are a producer's, a listener's, a relay's and a worker's.
    """

    def __init__(
        self, connections: Sequence[Connection], *, post_to: str | None, posting: aiohttp.ClientSession
    ) -> None:
        self._producer, self._listener, self._relay, self._worker = connections
        self._url = post_to
        self._posting = posting
        self._heard: AsyncGenerator[psycopg.Notify, None] = self._listener.notifies()

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._listener.execute(f"listen {CHANNEL}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        await self._heard.aclose()

    async def walk(self) -> dict[str, float]:
        """The seconds that each step took for one new job, by the step's name."""
        marks = {"start": time.perf_counter()}
        job_id = await self._commit()
        marks[COMMIT] = time.perf_counter()
        await self._wake()
        marks["wake-up"] = time.perf_counter()
        if self._url is None:
            await floors.claim_due(self._worker, slots=1)
        else:
            await floors.claim_triggers(self._relay, slots=1)
            marks["claim of the trigger"] = time.perf_counter()
            await post(self._posting, self._url, encode_trigger(job_id, NOTHING), new_traceparent())
            marks["POST"] = time.perf_counter()
            await floors.claim_by_ids(self._worker, [job_id])
        marks[CLAIM] = time.perf_counter()
        return {name: end - start for (_, start), (name, end) in pairwise(marks.items())}

    async def _commit(self) -> UUID:
        cursor = await self._producer.execute(queries.load("call_function"), row())
        found = await cursor.fetchone()
        assert found is not None
        return UUID(str(found[0]))

    async def _wake(self) -> None:
        heard = asyncio.ensure_future(anext(self._heard))
        await self._producer.execute("select pg_notify(%s, '')", [CHANNEL])
        await heard
