"""The logic of one queue: what is due when, how fast, how often, and which names may not be used again.

Pure: it sends nothing and reads no clock; every method takes the time, in seconds since 1970. State is in memory alone.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from outboxkit_cli.cloud_tasks.rates import RateLimits, TokenBucket
from outboxkit_cli.cloud_tasks.refusals import TASK_GONE, TASK_NAME_USED, Refusal, not_found
from outboxkit_cli.cloud_tasks.retries import RetryConfig, backoff, exhausted
from outboxkit_cli.cloud_tasks.tasks import Answer, Attempt, Task

HOUR: Final = 3600.0
RETENTION: Final = 31 * 24 * HOUR
"""Seconds after which a task is deleted, dispatched or not."""


class Tombstones:
    """Names that were used within the last `keep` seconds."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._until: OrderedDict[str, float] = OrderedDict()

    def add(self, name: str, now: float) -> None:
        """Remember a name."""
        self._until[name] = now + self._keep
        self._until.move_to_end(name)

    def holds(self, name: str, now: float) -> bool:
        """Tell whether a name was used recently."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return name in self._until


class TaskQueue:
    """A queue. `take` says what to dispatch now, `settle` what came of it, `next_due` when to look again."""

    def __init__(
        self, name: str, *, retries: RetryConfig, limits: RateLimits, now: float, tombstone_seconds: float = HOUR
    ) -> None:
        """A new queue runs, and its token bucket is full."""
        self.name = name
        self.retries = retries
        self.paused = False
        self.purged: float | None = None
        self._tasks: dict[str, Task] = {}
        self._tombstones = Tombstones(tombstone_seconds)
        self._heap: list[tuple[float, int, Task]] = []
        self._tickets = itertools.count()
        self._valid: dict[Task, int] = {}  # the one entry of the heap that counts for a task
        self._running = 0
        self.limit(limits, now)

    def __iter__(self) -> Iterator[Task]:
        """Iterate over a copy of the tasks, in the order of their creation."""
        return iter(list(self._tasks.values()))

    def limit(self, limits: RateLimits, now: float) -> None:
        """Set other rate limits."""
        self.limits = limits
        self._bucket = TokenBucket(rate=limits.max_dispatches_per_second, size=limits.max_burst_size, now=now)

    def add(self, task: Task, now: float) -> None:
        """Take a task in. Refuses a name that is in use or was in use recently."""
        if task.name in self._tasks:
            raise Refusal("ALREADY_EXISTS", "Requested entity already exists")
        if self._tombstones.holds(task.name, now):
            raise Refusal("ALREADY_EXISTS", TASK_NAME_USED)
        self._tasks[task.name] = task
        self._schedule(task)

    def get(self, name: str, now: float) -> Task:
        """Return a task. Refuses when there is none, and says whether there was one recently."""
        if name in self._tasks:
            return self._tasks[name]
        raise not_found(TASK_GONE) if self._tombstones.holds(name, now) else not_found()

    def delete(self, name: str, now: float) -> None:
        """Delete a task; a dispatch that is under way goes on, and nothing comes of it."""
        self._bury(self.get(name, now), now)

    def purge(self, now: float) -> None:
        """Delete every task."""
        for task in self:
            self._bury(task, now)
        self.purged = now

    def take(self, now: float) -> Iterator[tuple[Task, Attempt]]:
        """Yield what is due and may be dispatched now, each with the attempt that this begins."""
        while self._may_dispatch():
            task = self._head(now)
            if task is None or task.due > now or not self._bucket.take(now):
                return
            yield task, self.begin(task, now)

    def begin(self, task: Task, now: float) -> Attempt:
        """Begin an attempt whatever the schedule, the limits and a pause say."""
        self._valid.pop(task, None)
        self._running += 1
        return task.begin(now)

    def settle(self, task: Task, attempt: Attempt, answer: Answer, now: float) -> None:
        """Say what came of an attempt. The task is deleted when it succeeded or was given up, silently, else tried again."""
        self._running -= 1
        if self._tasks.get(task.name) is not task:
            return
        task.end(attempt, answer, now)
        if answer.success or self._given_up(task, now):
            self._bury(task, now)
            return
        wait = backoff(task.retries or self.retries, task.dispatch_count)
        task.scheduled = now + max(wait, answer.retry_after or 0.0)
        self._schedule(task)

    def next_due(self, now: float) -> float | None:
        """Return when `take` may next yield something, as far as time alone decides."""
        head = self._head(now)
        if head is None or not self._may_dispatch():
            return None
        return max(head.due, self._bucket.ready_at(now))

    def _may_dispatch(self) -> bool:
        return not self.paused and self._running < self.limits.max_concurrent_dispatches

    def _schedule(self, task: Task) -> None:
        if not task.lost:
            self._valid[task] = next(self._tickets)
            heapq.heappush(self._heap, (task.due, self._valid[task], task))

    def _head(self, now: float) -> Task | None:
        """Return the first task of the schedule, after deleting those that are too old or have been given up meanwhile."""
        while self._heap:
            _, ticket, task = self._heap[0]
            if self._valid.get(task) != ticket:
                heapq.heappop(self._heap)
            elif task.due <= now and self._given_up(task, now):
                self._bury(task, now)
            else:
                return task
        return None

    def _given_up(self, task: Task, now: float) -> bool:
        if now - task.created >= RETENTION:
            return True
        if task.first_dispatched is None:
            return False
        config = task.retries or self.retries
        return exhausted(config, attempts=task.dispatch_count, since_first=now - task.first_dispatched)

    def _bury(self, task: Task, now: float) -> None:
        del self._tasks[task.name]
        self._valid.pop(task, None)
        self._tombstones.add(task.name, now)
