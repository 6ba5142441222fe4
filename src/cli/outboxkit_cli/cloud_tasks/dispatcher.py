"""Sends what is due, and tells the queue what came of it."""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp

from outboxkit.tasks import end
from outboxkit_cli.cloud_tasks.headers import dispatch_headers, retry_after
from outboxkit_cli.cloud_tasks.queues import TaskQueue
from outboxkit_cli.cloud_tasks.state import State
from outboxkit_cli.cloud_tasks.tasks import NO_ANSWER, NO_CONNECTION, Answer, Attempt, Task
from outboxkit_cli.cloud_tasks.tokens import Signer, strip_signature

log = logging.getLogger(__name__)

# How many of the last dispatches are remembered.
REMEMBERED = 10_000
# Below the five seconds after which uvicorn and others close an idle connection.
IDLE_SECONDS = 3.0
CHUNK = 64 * 1024


@dataclass(frozen=True)
class Dispatch:
    """A dispatch that has ended."""

    task: str
    attempt: Attempt
    answer: Answer


class Dispatcher:
    """Runs as one task; `async with` it, and what is under way when the block ends is abandoned."""

    def __init__(self, state: State, signer: Signer) -> None:
        self.ended: deque[Dispatch] = deque(maxlen=REMEMBERED)
        self._state = state
        self._signer = signer
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Dispatcher":
        """Begin."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "*/*", "Accept-Encoding": "gzip, deflate, br"},
            skip_auto_headers=("Content-Type",),
            auto_decompress=False,
        )
        self._loop = asyncio.create_task(self._run(), name="cloud-tasks-dispatcher")
        self._loop.add_done_callback(_report)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End at once."""
        await end(self._loop, *self._under_way)
        await self._session.close()

    def start(self, queue: TaskQueue, task: Task, attempt: Attempt) -> None:
        """Send an attempt that the queue has begun."""
        self._spawn(self._attempt(queue, task, attempt), attempt)
        if self._state.dice.meets(self._state.faults.twice):
            self._spawn(self._again(task, attempt), attempt)

    async def _run(self) -> None:
        while True:
            self._state.changed.clear()
            for queue in self._state:
                for task, attempt in queue.take(self._state.clock()):
                    self.start(queue, task, attempt)
            await self._sleep()

    async def _sleep(self) -> None:
        due = self._state.next_due()
        wait = None if due is None else max(0.0, due - self._state.clock())
        try:
            async with asyncio.timeout(wait):
                await self._state.changed.wait()
        except TimeoutError:
            pass

    def _spawn(self, sending: Coroutine[Any, Any, None], attempt: Attempt) -> None:
        task = asyncio.create_task(sending, name=f"cloud-tasks-attempt-{attempt.number}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        task.add_done_callback(_report)

    async def _attempt(self, queue: TaskQueue, task: Task, attempt: Attempt) -> None:
        answer = await self._send(task, attempt)
        queue.settle(task, attempt, answer, self._state.clock())
        self.ended.append(Dispatch(task.name, attempt, answer))
        self._state.changed.set()

    async def _again(self, task: Task, attempt: Attempt) -> None:
        await self._send(task, attempt)

    async def _send(self, task: Task, attempt: Attempt) -> Answer:
        """Send the request and wait for the whole answer, the dispatch deadline at most."""
        try:
            async with asyncio.timeout(task.deadline):
                return await self._exchange(task, attempt)
        except TimeoutError:
            log.warning("no answer within %g s: %s", task.deadline, task.name)
            return NO_ANSWER
        except aiohttp.TooManyRedirects as error:
            return Answer(status=error.history[-1].status)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.warning("no answer from %s: %r", task.request.url, error)
            return NO_CONNECTION

    async def _exchange(self, task: Task, attempt: Attempt) -> Answer:
        request = task.request
        async with self._session.request(
            request.method,
            request.url,
            data=request.body or None,
            headers=dispatch_headers(task, attempt, token=self._token(task)),
        ) as response:
            async for _ in response.content.iter_chunked(CHUNK):
                pass
            log.info("%d from %s for %s", response.status, request.url, task.name)
            return Answer(status=response.status, retry_after=retry_after(response.headers, self._state.clock()))

    def _token(self, task: Task) -> str | None:
        """Return the token for this dispatch, signed just now as Google does: a task may be a month old."""
        request, faults = task.request, self._state.faults
        if request.oidc is None:
            return None
        # The machine's clock, not the queues': whoever reads the token has no other.
        now = self._state.clock() - self._state.clock.ahead
        audience = request.oidc.audience or request.url
        token = self._signer.sign(request.oidc.email, audience, now, expired=faults.expired_tokens)
        return strip_signature(token) if faults.strip_signatures else token


def _report(task: asyncio.Task[None]) -> None:
    """Log what ended a task that nobody waits for; nothing else would tell why dispatches have stopped."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s ended: %r", task.get_name(), error, exc_info=error)
