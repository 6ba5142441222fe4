"""Writes what became of deliveries, in batches, each row behind its fence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, TypeAlias

import psycopg
from psycopg_pool import PoolClosed

from outboxkit import queries
from outboxkit.batching import MicroBatcher
from outboxkit.database import retried
from outboxkit.sweeps import SweepLimits
from outboxkit_relay.decisions import Bury, Retry
from outboxkit_relay.transports import Custody
from outboxkit_relay.triggers import Pool, Trigger

log = logging.getLogger(__name__)

Entry: TypeAlias = tuple[Trigger, Any]

BATCH: Final = 200
# While deliveries go on, a batch waits this long for company; nobody waits for it. Seconds.
LINGER: Final = 0.004
# Between two tries while the database is away. Seconds.
PAUSE: Final = 0.2


class Settlement:
    """Takes decisions without making anybody wait, and writes them a batch at a time.

    Guarantees: a row that somebody has claimed since is not touched (`claims` is the fence). What cannot be written because
    the database is away is tried again until the row's lease is over; after that it is pointless, for the row is due again
    and will be delivered a second time. The same happens to what was not written when the process dies.

    Misses of the fence are normal, most of all because a worker's claim deletes the trigger before its ack gets here.
    """

    def __init__(self, *, pool: Pool, lease: float, limits: SweepLimits, busy: Callable[[], bool]) -> None:
        """`lease` in seconds. `limits` say when what was handed over is looked for.

        `busy` tells whether more is likely to come soon, so that a batch may wait for it.
        """
        self._pool = pool
        self._lease = lease
        self._limits = limits
        self.missed = 0
        self.buried = 0

        def linger() -> float:
            return LINGER if busy() else 0.0

        def separable(error: BaseException) -> bool:
            return isinstance(error, psycopg.DataError)

        self._acks = MicroBatcher(self._ack, size=BATCH, linger=linger)
        self._handed = MicroBatcher(self._hand_over, size=BATCH, linger=linger)
        self._retries = MicroBatcher(self._retry, size=BATCH, linger=linger, separable=separable)
        self._returns = MicroBatcher(self._give_back, size=BATCH)
        self._burials = MicroBatcher(self._bury, size=1)

    def ack(self, trigger: Trigger) -> None:
        """The row goes."""
        self._acks.put((trigger, None))

    def hand_over(self, trigger: Trigger, custody: Custody) -> None:
        """The row goes, and its job is looked after from now on."""
        self._handed.put((trigger, custody))

    def retry(self, trigger: Trigger, decision: Retry) -> None:
        """The row is due again later."""
        self._retries.put((trigger, decision))

    def give_back(self, trigger: Trigger) -> None:
        """The row is due at once, or when its job is, and nothing is counted."""
        self._returns.put((trigger, None))

    def bury(self, trigger: Trigger, decision: Bury) -> None:
        """The row goes, and its dead letter is written."""
        self._burials.put((trigger, decision))

    async def drained(self) -> None:
        """Returns when everything handed in so far is written, or given up."""
        for batcher in (self._acks, self._handed, self._retries, self._returns, self._burials):
            await batcher.drained()

    async def _ack(self, batch: Sequence[Entry]) -> Sequence[None]:
        return await self._write("ack_triggers", batch, _fences)

    async def _hand_over(self, batch: Sequence[Entry]) -> Sequence[None]:
        return await self._write(
            "hand_over_triggers",
            batch,
            lambda live: {
                **_fences(live),
                "job_ids": [trigger.job_id for trigger, _ in live],
                "found": [custody is not Custody.TAKEN for _, custody in live],
                "waiting": [custody is Custody.WAITING for _, custody in live],
                "after": self._limits.stranded_after,
            },
        )

    async def _give_back(self, batch: Sequence[Entry]) -> Sequence[None]:
        return await self._write("give_back_triggers", batch, _fences)

    async def _retry(self, batch: Sequence[Entry]) -> Sequence[None]:
        return await self._write(
            "retry_triggers",
            batch,
            lambda live: {
                **_fences(live),
                "delays": [retry.delay for _, retry in live],
                "counted": [int(retry.counted) for _, retry in live],
                "errors": [retry.error for _, retry in live],
            },
        )

    async def _write(
        self, name: str, batch: Sequence[Entry], parameters: Callable[[Sequence[Entry]], dict[str, Any]]
    ) -> Sequence[None]:
        rows, live = await self._execute(name, batch, parameters)
        if missed := len(live) - len(rows):
            self.missed += missed
            log.debug("%s: %d of %d rows were no longer as claimed", name, missed, len(live))
        return [None] * len(batch)

    async def _bury(self, batch: Sequence[Entry]) -> Sequence[None]:
        [(trigger, bury)] = batch
        rows, _ = await self._execute("bury_trigger", batch, lambda _live: _burial(trigger, bury))
        for gone, buried in rows:
            self.buried += buried
            self.missed += 1 - gone
            if buried:
                about = {"job_id": trigger.job_id, "attempt": trigger.attempts, "traceparent": trigger.traceparent}
                log.warning("dead letter: %s: %s", bury.reason, bury.error, extra=about)
        return [None]

    async def _execute(
        self, name: str, batch: Sequence[Entry], parameters: Callable[[Sequence[Entry]], dict[str, Any]]
    ) -> tuple[list[tuple[Any, ...]], Sequence[Entry]]:
        """The statement's rows, and the entries it was run for: those whose lease was not over when it worked at last."""
        live = batch
        while live:
            try:
                async with self._pool.connection() as connection:
                    values = parameters(live)
                    cursor = await retried(lambda: connection.execute(queries.load(name), values))  # noqa: B023 (awaited here)
                    return await cursor.fetchall(), live
            except PoolClosed:
                break
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.info("%s: %d rows not written yet: %s", name, len(live), error)
                await asyncio.sleep(PAUSE)
            oldest = monotonic() - self._lease
            live = [entry for entry in live if entry[0].claimed_at > oldest]
        log.warning("%s: given up, the database was away for too long; %d rows come due again", name, len(batch))
        return [], []


def _fences(entries: Sequence[Entry]) -> dict[str, Any]:
    return {"ids": [trigger.id for trigger, _ in entries], "claims": [trigger.claims for trigger, _ in entries]}


def _burial(trigger: Trigger, bury: Bury) -> dict[str, Any]:
    return {
        "id": trigger.id,
        "claims": trigger.claims,
        "job_id": trigger.job_id,
        "reason": bury.reason,
        "error": bury.error,
        "status": bury.status,
        "counted": int(bury.counted),
    }
