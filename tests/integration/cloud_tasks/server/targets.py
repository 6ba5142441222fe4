"""What the tests talk to: a Cloud Tasks of whatever make through Google's client, and the worker that it calls."""

import inspect
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.api_core.exceptions import NotFound
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf import timestamp_pb2

from sink import Reply, Request, Sink
from waiting import until_async

LOCATION = "projects/local-project/locations/local-area1"
DONE = Reply(200, b"{}")

_numbers = itertools.count(1)


@dataclass
class Worker:
    """A worker in the test's hands: answers with what is scripted, then with 200, and notes when it was asked."""

    script: list[Reply] = field(default_factory=list)
    answering: Callable[[Request], Reply | Awaitable[Reply]] | None = None
    arrivals: list[float] = field(default_factory=list)
    """time.time() of each request."""
    sink: Sink | None = None

    @property
    def url(self) -> str:
        """Its address."""
        assert self.sink is not None
        return self.sink.url

    @property
    def requests(self) -> list[Request]:
        """What it was asked, in order."""
        assert self.sink is not None
        return self.sink.requests

    async def answer(self, request: Request) -> Reply:
        """Answer a request."""
        self.arrivals.append(time.time())
        if self.answering is not None:
            found: Any = self.answering(request)
            return await found if inspect.isawaitable(found) else found  # type: ignore[no-any-return]
        return self.script.pop(0) if self.script else DONE

    async def asked(self, times: int = 1, *, within: float = 30.0) -> Request:
        """Wait until so many requests have come, and return the last of those."""
        await until_async(lambda: len(self.requests) >= times, what=f"{times} requests", within=within)
        return self.requests[times - 1]

    async def asked_with(self, body: bytes, *, within: float = 30.0) -> None:
        """Wait until a request with this body has come."""
        await until_async(
            lambda: body in [request.body for request in self.requests], what=f"a request with {body!r}", within=within
        )


@dataclass(frozen=True)
class Target:
    """A Cloud Tasks behind Google's client."""

    name: str
    client: tasks_v2.CloudTasksAsyncClient
    patience: float
    """Seconds to wait for what should happen."""
    queues: list[str] = field(default_factory=list)
    """Those that were made."""

    async def new_queue(self, **settings: Any) -> str:
        """Make a queue that no other test uses."""
        queue = f"{LOCATION}/queues/q-{next(_numbers)}-{time.time_ns()}"
        await self.client.create_queue(parent=LOCATION, queue={"name": queue, **settings})
        self.queues.append(queue)
        return queue

    async def leave_nothing(self) -> None:
        """Delete the queues: what stands in them would be sent to whoever gets the worker's port next."""
        for queue in self.queues:
            with suppress(NotFound):
                await self.client.delete_queue(name=queue)

    async def create(self, queue: str, worker: Worker, *, name: str | None = None, **fields: Any) -> tasks_v2.Task:
        """Make a task that calls the worker; `http` is what its request has besides the URL."""
        http = {"url": worker.url, **fields.pop("http", {})}
        task = {"http_request": http, **({"name": f"{queue}/tasks/{name}"} if name else {}), **fields}
        return await self.client.create_task(parent=queue, task=task)

    async def names(self, queue: str) -> list[str]:
        """Return the names of the tasks that stand in a queue."""
        return [task.name async for task in await self.client.list_tasks(parent=queue)]

    async def emptied(self, queue: str) -> None:
        """Wait until nothing stands in a queue."""
        deadline = time.monotonic() + self.patience
        while await self.names(queue):
            assert time.monotonic() < deadline, f"waited {self.patience:g} s for {queue} to be empty"


@asynccontextmanager
async def connected(name: str, address: str, *, patience: float) -> AsyncIterator[Target]:
    """Connect Google's client to a server that wants neither TLS nor credentials."""
    async with grpc.aio.insecure_channel(address) as channel:
        transport = CloudTasksGrpcAsyncIOTransport(channel=channel)
        yield Target(name, tasks_v2.CloudTasksAsyncClient(transport=transport), patience)


def at(seconds: float) -> timestamp_pb2.Timestamp:
    """Return a time as Google's messages hold it."""
    whole, micros = divmod(round(seconds * 1e6), 10**6)
    return timestamp_pb2.Timestamp(seconds=whole, nanos=micros * 1000)
