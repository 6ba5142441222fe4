"""What the parts of the server share: the queues, the clock, the faults. In memory; it ends with the process."""

import asyncio
import time
from collections.abc import Iterator

from outboxkit_cli.cloud_tasks.faults import Dice, Faults
from outboxkit_cli.cloud_tasks.queues import HOUR, TaskQueue, Tombstones
from outboxkit_cli.cloud_tasks.rates import RateLimits
from outboxkit_cli.cloud_tasks.refusals import QUEUE_NAME_USED, QUEUE_NOT_FOUND, Refusal, not_found
from outboxkit_cli.cloud_tasks.retries import RetryConfig

# Google keeps a deleted queue's name for up to three days.
QUEUE_TOMBSTONE_SECONDS = 72 * HOUR


class Clock:
    """The time of the queues: the machine's, and whatever it was put forward by."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.ahead


class State:
    """Queues by name. Whoever changes when something is due sets `changed`."""

    def __init__(self, *, tombstone_seconds: float = HOUR, seed: int = 0) -> None:
        self.clock = Clock()
        self.faults = Faults()
        self.dice = Dice(seed)
        self.changed = asyncio.Event()
        self._tombstone_seconds = tombstone_seconds
        self._queues: dict[str, TaskQueue] = {}
        self._deleted = Tombstones(QUEUE_TOMBSTONE_SECONDS)

    def __iter__(self) -> Iterator[TaskQueue]:
        """Iterate over the queues in the order of their names, as Google lists them."""
        return iter([self._queues[name] for name in sorted(self._queues)])

    def __contains__(self, name: str) -> bool:
        """Tell whether there is such a queue."""
        return name in self._queues

    def queue(self, name: str) -> TaskQueue:
        """Return a queue. Refuses when there is none."""
        if name not in self._queues:
            raise not_found(QUEUE_NOT_FOUND)
        return self._queues[name]

    def create(self, name: str, *, retries: RetryConfig, limits: RateLimits) -> TaskQueue:
        """Make a queue. Refuses a name that is in use, or was until recently."""
        now = self.clock()
        if name in self._queues:
            raise Refusal("ALREADY_EXISTS", "Queue already exists")
        if self._deleted.holds(name, now):
            raise Refusal("FAILED_PRECONDITION", QUEUE_NAME_USED)
        queue = TaskQueue(name, retries=retries, limits=limits, now=now, tombstone_seconds=self._tombstone_seconds)
        self._queues[name] = queue
        return queue

    def delete(self, name: str) -> None:
        """Delete a queue with its tasks."""
        if name not in self._queues:
            raise not_found()
        del self._queues[name]
        self._deleted.add(name, self.clock())

    def advance(self, seconds: float) -> None:
        """Put the queues' clock forward, so that what is due within that time is due now."""
        self.clock.ahead += seconds
        self.changed.set()

    def next_due(self) -> float | None:
        """Return when a queue may next have something to dispatch, as far as time alone decides."""
        now = self.clock()
        return min((due for queue in self if (due := queue.next_due(now)) is not None), default=None)
