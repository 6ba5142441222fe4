"""Cloud Tasks as somebody at its console sees it: switches for its faults, its queue, and what it has done so far."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.tasks_v2 import CloudTasksAsyncClient, Queue, RetryConfig
from google.cloud.tasks_v2.services.cloud_tasks.transports.grpc_asyncio import CloudTasksGrpcAsyncIOTransport

from chaos.google_role import LOCATION, PROJECT, QUEUE, RETRIES

T = TypeVar("T")

PATH = f"projects/{PROJECT}/locations/{LOCATION}/queues/{QUEUE}"
# Calls that a fault meets: more than there are.
MANY = 1_000_000
# Seconds in which a server that was killed is back.
BACK_WITHIN = 60.0
ANSWERED_WITHIN = 5.0


class Console:
    """Every method waits for the server to be there."""

    def __init__(self, *, grpc_port: int, http_port: int, notes: Path) -> None:
        self._address = f"127.0.0.1:{grpc_port}"
        self._url = f"http://127.0.0.1:{http_port}"
        notes.touch()
        self._notes = notes.open()
        self._noted: Counter[str] = Counter()

    def noted(self, what: str) -> int:
        """How often it has noted something that begins so; see `chaos.google_role`."""
        self._noted.update(line.rstrip() for line in self._notes)
        return sum(count for note, count in self._noted.items() if note.startswith(what))

    @asynccontextmanager
    async def faulty(self, **faults: Any) -> AsyncIterator[None]:
        """The server's own faults, by their names, for as long as this lasts."""
        before = await self._http("GET", "/faults")
        await self._http("POST", "/faults", json=faults)
        try:
            yield
        finally:
            await self._http("POST", "/faults", json={name: before[name] for name in faults})

    @asynccontextmanager
    async def failing(self, method: str, code: str, *, after: bool = False) -> AsyncIterator[None]:
        """Calls of this method fail; `after` they have done what was asked."""
        async with self.faulty(calls={method: {"code": code, "times": MANY, "after": after}}):
            yield

    async def failed(self, method: str) -> int:
        """How many calls have failed since `failing`."""
        return MANY - (await self._http("GET", "/faults"))["calls"][method]["times"]

    async def ready(self) -> None:
        """Returns when calls are answered."""
        await self._grpc(lambda client: client.get_queue(name=PATH, timeout=ANSWERED_WITHIN))

    async def rotate_key(self) -> None:
        """Sign with a new key from now on."""
        await self._http("POST", "/keys/rotate")

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """The queue dispatches nothing; one that was killed meanwhile comes back without the pause, and without tasks."""
        await self._grpc(lambda client: client.pause_queue(name=PATH, timeout=ANSWERED_WITHIN))
        try:
            yield
        finally:
            await self._grpc(lambda client: client.resume_queue(name=PATH, timeout=ANSWERED_WITHIN))

    @asynccontextmanager
    async def impatient(self, attempts: int) -> AsyncIterator[None]:
        """The queue gives a task up, and deletes it, after so many attempts."""
        await self._limit(attempts)
        try:
            yield
        finally:
            await self._limit(RETRIES.max_attempts)

    async def _limit(self, attempts: int) -> None:
        queue = Queue(name=PATH, retry_config=RetryConfig(max_attempts=attempts))
        mask = {"paths": ["retry_config.max_attempts"]}
        await self._grpc(lambda client: client.update_queue(queue=queue, update_mask=mask, timeout=ANSWERED_WITHIN))

    async def _http(self, method: str, path: str, **options: Any) -> Any:
        async def ask() -> Any:
            async with httpx.AsyncClient(base_url=self._url, timeout=ANSWERED_WITHIN, trust_env=False) as client:
                return (await client.request(method, path, **options)).raise_for_status().json()

        return await _patiently(ask, httpx.TransportError)

    async def _grpc(self, call: Callable[[CloudTasksAsyncClient], Awaitable[T]]) -> T:
        async def ask() -> T:
            async with grpc.aio.insecure_channel(self._address) as channel:
                return await call(CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel)))

        return await _patiently(ask, GoogleAPICallError)


async def _patiently(ask: Callable[[], Awaitable[T]], error: type[Exception]) -> T:
    async with asyncio.timeout(BACK_WITHIN):
        while True:
            try:
                return await ask()
            except error:
                await asyncio.sleep(0.1)
