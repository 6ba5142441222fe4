"""Who plays in an interleaving: a connection that claims, settles and sweeps as workers, relays and people do."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from outboxkit import Handlers, Job, leases, queries
from outboxkit.leases import Lease

MINUTE = timedelta(minutes=1)

handlers = Handlers()


@handlers.register("K", max_attempts=3)
async def _thrice(payload: dict[str, Any], job: Job) -> None:
    """A kind with three attempts; nobody runs it here."""


@handlers.register("ONCE", max_attempts=1)
async def _once(payload: dict[str, Any], job: Job) -> None:
    """A kind with one attempt; nobody runs it here."""


class Actor:
    """One connection in a scenario, in autocommit until it begins."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self.pid = connection.info.backend_pid
        self.worker = uuid4()

    async def run(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Run SQL; returns its rows, if it has any."""
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement.encode(), values or None)
            return await cursor.fetchall() if cursor.description else []

    async def query(self, name: str, **values: Any) -> list[dict[str, Any]]:
        """Run one of the kit's statements, as it is loaded (and rewritten) now."""
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(queries.load(name), values)
            return await cursor.fetchall() if cursor.description else []

    async def begin(self, isolation: str = "read committed") -> None:
        """Begin a transaction."""
        await self.run(f"begin isolation level {isolation}")

    async def commit(self) -> None:
        """Commit it."""
        await self.run("commit")

    async def rollback(self) -> None:
        """Roll it back."""
        await self.run("rollback")

    async def claim(self, *ids: UUID, lease: timedelta = MINUTE) -> list[Lease]:
        """Claim by id, as this actor's worker."""
        return await leases.claim_by_ids(self.connection, ids, handlers=handlers, worker=self.worker, lease=lease)

    async def claim_due(self, *, slots: int = 10, lease: timedelta = MINUTE) -> list[Lease]:
        """Claim what is due, as this actor's worker."""
        return await leases.claim_due(self.connection, slots=slots, handlers=handlers, worker=self.worker, lease=lease)

    async def end(self, lease: Lease, *, delay: float = 0, final: bool = False) -> str | None:
        """End an attempt unsuccessfully; returns the job's state, or None when the lease was lost."""
        ended = await leases.end(
            self.connection,
            lease,
            worker=self.worker,
            reason="error",
            error="boom",
            delay=timedelta(seconds=delay),
            final=final,
        )
        return None if ended is None else ended.state

    async def complete(self, *claimed: Lease) -> set[UUID]:
        """Complete attempts in one batch, as this actor's worker."""
        attempts = [(lease.id, lease.attempt, None) for lease in claimed]
        return await leases.complete(self.connection, attempts, worker=self.worker)

    async def give_back(self, *claimed: Lease) -> set[UUID]:
        """Give attempts back, as this actor's worker."""
        attempts = [(lease.id, lease.attempt) for lease in claimed]
        return await leases.give_back(self.connection, attempts, worker=self.worker)

    async def heartbeat(self, *claimed: Lease, lease: timedelta = MINUTE, progress: str | None = None) -> set[UUID]:
        """Extend leases, as this actor's worker."""
        tokens = {"ids": [one.id for one in claimed], "attempts": [one.attempt for one in claimed]}
        values = {**tokens, "progress": [progress] * len(claimed), "worker": self.worker, "lease": lease}
        return set(_ids(await self.query("heartbeat", **values)))

    async def complete_inside(self, lease: Lease) -> bool:
        """Complete an attempt as a handler's own transaction does; False when the lease was lost."""
        values = {"id": lease.id, "attempt": lease.attempt, "worker": self.worker, "result": None}
        try:
            await self.query("complete_attempt", **values)
        except psycopg.DatabaseError as error:
            if error.sqlstate != leases.LEASE_LOST:
                raise
            return False
        return True

    async def sweep_leases(self, *, longest: timedelta = timedelta(hours=1)) -> list[str]:
        """Sweep expired leases once; returns the states given."""
        rows = await self.query("sweep_expired_leases", longest=longest, batch=100)
        return [row["state"] for row in rows]

    async def sweep_stranded(self, *, rescues: int = 5) -> list[str]:
        """Sweep stranded jobs once; returns the states given."""
        rows = await self.query("sweep_stranded", after=MINUTE, rescues=rescues, batch=100)
        return [row["state"] for row in rows]

    async def sweep_finished(self, *, keep: timedelta = timedelta(0)) -> list[UUID]:
        """Delete jobs that ended; returns which."""
        return _ids(await self.query("sweep_finished_jobs", keep=keep, batch=100))

    async def sweep_letters(self) -> list[int]:
        """Delete dead letters that were replayed; returns which."""
        return _ids(await self.query("sweep_replayed_letters", keep=timedelta(0), batch=100))

    async def sweep_records(self) -> int:
        """Delete records past their time; returns how many there were in the table that had the most."""
        rows = await self.query("sweep_records", keep=timedelta(0), batch=100)
        return int(rows[0]["greatest"])

    async def cancel(self, job_id: UUID) -> tuple[str, bool]:
        """Cancel a job: (its state now, whether this asked for anything)."""
        rows = await self.query("cancel_job", id=job_id)
        return rows[0]["state"], rows[0]["asked"]

    async def replay(self, letter: int) -> list[UUID]:
        """Replay a dead letter; the job queued again, if there was one."""
        return _ids(await self.query("replay_dead_letter", id=letter, actor="someone", attempts=3))

    async def claim_triggers(
        self, slots: int = 10, lease: timedelta = MINUTE, ahead: timedelta | None = None
    ) -> list[tuple[int, int]]:
        """Claim triggers as a relay: (outbox id, claims) of each."""
        return [(row["id"], row["claims"]) for row in await self.claimed_ahead(ahead, slots=slots, lease=lease)]

    async def claimed_ahead(
        self, ahead: timedelta | None, *, slots: int = 10, lease: timedelta = MINUTE
    ) -> list[dict[str, Any]]:
        """Claim triggers that are due within so long, or due when that is None; the rows."""
        return await self.query("claim_triggers", slots=slots, lease=lease, paused=[], only=None, ahead=ahead)

    async def ack(self, *claims: tuple[int, int]) -> list[int]:
        """Settle triggers as delivered; returns the outbox ids deleted."""
        return _ids(await self.query("ack_triggers", **_split(claims)))

    async def hand_over(
        self, job_id: UUID, claim: tuple[int, int], *, found: bool = False, waiting: bool = False
    ) -> list[int]:
        """Settle a trigger as taken over by a transport that delivers later; returns the outbox ids deleted."""
        values = {"job_ids": [job_id], "found": [found], "waiting": [waiting], "after": MINUTE}
        return _ids(await self.query("hand_over_triggers", **_split((claim,)), **values))

    async def retry(self, *claims: tuple[int, int], delay: float = 0) -> list[int]:
        """Settle triggers as to be tried again; returns the outbox ids."""
        n = len(claims)
        more = {"delays": [delay] * n, "counted": [1] * n, "errors": ["boom"] * n}
        return _ids(await self.query("retry_triggers", **_split(claims), **more))

    async def give_back_triggers(self, *claims: tuple[int, int]) -> list[int]:
        """Give triggers back; returns the outbox ids."""
        return _ids(await self.query("give_back_triggers", **_split(claims)))

    async def bury(self, job_id: UUID, claim: tuple[int, int]) -> tuple[int, int]:
        """Bury a trigger: (outbox rows gone, dead letters written)."""
        values = {"job_id": job_id, "id": claim[0], "claims": claim[1], "counted": 1}
        rows = await self.query("bury_trigger", **values, reason="unknown-job", error="boom", status=404)
        return rows[0]["gone"], rows[0]["buried"]


def _split(claims: tuple[tuple[int, int], ...]) -> dict[str, list[int]]:
    return {"ids": [row for row, _ in claims], "claims": [claimed for _, claimed in claims]}


def _ids(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["id"] for row in rows]
