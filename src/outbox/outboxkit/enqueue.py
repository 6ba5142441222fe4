"""enqueue: a job and its trigger, in the caller's own transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, overload
from uuid import UUID

import msgspec
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.orm import Session

from outboxkit import payload as payloads
from outboxkit import queries, traces, wakeups
from outboxkit.payload import Payload

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    AsyncTarget: TypeAlias = AsyncSession | AsyncConnection
Target: TypeAlias = Session | Connection

# Jobs a statement: bounds what one message to Postgres weighs, at next to no cost in round trips.
BULK = 1000


class NewJob(msgspec.Struct, frozen=True):
    """One job of an `enqueue_many`; the fields are `enqueue`'s arguments."""

    kind: str
    payload: Payload = None
    run_at: datetime | None = None
    unique_key: str | None = None
    max_attempts: int | None = None
    queue: str = "default"


@overload
def enqueue(
    session: Target,
    kind: str,
    payload: Payload = None,
    *,
    run_at: datetime | None = None,
    unique_key: str | None = None,
    max_attempts: int | None = None,
    queue: str = "default",
) -> UUID: ...


@overload
def enqueue(
    session: AsyncTarget,
    kind: str,
    payload: Payload = None,
    *,
    run_at: datetime | None = None,
    unique_key: str | None = None,
    max_attempts: int | None = None,
    queue: str = "default",
) -> Awaitable[UUID]: ...


def enqueue(
    session: Target | AsyncTarget,
    kind: str,
    payload: Payload = None,
    *,
    run_at: datetime | None = None,
    unique_key: str | None = None,
    max_attempts: int | None = None,
    queue: str = "default",
) -> UUID | Awaitable[UUID]:
    """Write a job and its trigger in the transaction of `session`; returns the job's id (async sessions: await it).

    Guarantees: the job exists if and only if the caller's transaction commits, and then it is run or stands in
    dead_letters. One statement, one round trip. If the process dies before the commit, nothing was enqueued; after it,
    everything was. After the commit the relay is woken, best effort: a lost wake-up costs one poll interval.

    run_at: not before this time (it needs a timezone). unique_key: with kind, unique as long as the job's row exists; a
    second enqueue writes nothing and returns the first job's id. max_attempts: overrides the handler's.

    Raises TypeError or ValueError, before anything is sent, naming the argument or the payload's field that is wrong.
    """
    job = NewJob(kind, payload, run_at, unique_key, max_attempts, queue)
    values = _values(job)
    if isinstance(session, Session | Connection):
        return _enqueue(session, values)
    return session.run_sync(_enqueue, values)


@overload
def enqueue_many(session: Target, jobs: Iterable[NewJob]) -> list[UUID]: ...


@overload
def enqueue_many(session: AsyncTarget, jobs: Iterable[NewJob]) -> Awaitable[list[UUID]]: ...


def enqueue_many(session: Target | AsyncTarget, jobs: Iterable[NewJob]) -> list[UUID] | Awaitable[list[UUID]]:
    """`enqueue` for many jobs, a thousand a round trip; the ids come back in the order of `jobs`.

    The same guarantees: all of them with the caller's transaction, or none. Jobs with a unique_key are written in the
    key's order, so that two callers with the same keys wait for each other instead of deadlocking.
    """
    documents = [_values(job) for job in jobs]
    if isinstance(session, Session | Connection):
        return _enqueue_many(session, documents)
    return session.run_sync(_enqueue_many, documents)


def _enqueue(session: Target, values: dict[str, Any]) -> UUID:
    connection = session if isinstance(session, Connection) else session.connection()
    job_id = connection.execute(_statement("enqueue_job"), values).scalar_one()
    wakeups.arm(connection)
    return _uuid(job_id)


def _enqueue_many(session: Target, documents: Sequence[dict[str, Any]]) -> list[UUID]:
    connection = session if isinstance(session, Connection) else session.connection()
    # Sorted across the statements, not only within each: the key's order is what prevents deadlocks.
    order = sorted(range(len(documents)), key=lambda n: _lock_order(documents[n]))
    ids: list[UUID | None] = [None] * len(documents)
    for start in range(0, len(order), BULK):
        chunk = order[start : start + BULK]
        document = msgspec.json.encode([_as_document(documents[n]) for n in chunk]).decode()
        written = connection.execute(_statement("enqueue_jobs"), {"jobs": document}).scalars()
        for n, job_id in zip(chunk, written, strict=True):
            ids[n] = _uuid(job_id)
    if documents:
        wakeups.arm(connection)
    return [job_id for job_id in ids if job_id is not None]


def _lock_order(values: dict[str, Any]) -> tuple[str, str]:
    return (values["kind"], values["unique_key"]) if values["unique_key"] is not None else ("", "")


def _as_document(values: dict[str, Any]) -> dict[str, Any]:
    document = {name: value for name, value in values.items() if value is not None}
    document["payload"] = msgspec.Raw(values["payload"].encode())
    return document


def _values(job: NewJob) -> dict[str, Any]:
    for name in ("kind", "queue", "unique_key"):
        _check_name(name, getattr(job, name), optional=name == "unique_key")
    _check_limit(job.max_attempts)
    return {
        "kind": job.kind,
        "payload": payloads.encode(job.payload),
        "queue": job.queue,
        "run_at": _instant(job.run_at),
        "unique_key": job.unique_key,
        "max_attempts": job.max_attempts,
        "traceparent": traces.current.get() or traces.new(),
    }


# What the table's checks allow, said before the round trip and by the argument's name.
_LONGEST = {"kind": 200, "queue": 100, "unique_key": 500}
_MOST_ATTEMPTS = 1_000_000
_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
_LATEST = datetime(9999, 12, 29, tzinfo=UTC)


def _check_limit(max_attempts: object) -> None:
    if max_attempts is None:
        return
    if not isinstance(max_attempts, int) or isinstance(max_attempts, bool):
        raise TypeError(f"max_attempts is a {type(max_attempts).__name__}; wanted a whole number")
    if not 1 <= max_attempts <= _MOST_ATTEMPTS:
        raise ValueError(f"max_attempts is {max_attempts}; wanted 1 to {_MOST_ATTEMPTS}")


def _check_name(name: str, value: object, *, optional: bool) -> None:
    if value is None and optional:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}; wanted a string")
    if not 1 <= len(value) <= _LONGEST[name]:
        raise ValueError(f"{name} has {len(value)} characters; wanted 1 to {_LONGEST[name]}")
    try:
        payloads.check_text(value, name)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _instant(run_at: datetime | None) -> str | None:
    if run_at is None:
        return None
    if not isinstance(run_at, datetime):
        raise TypeError(f"run_at is a {type(run_at).__name__}; wanted a datetime with a timezone")
    if run_at.utcoffset() is None:
        raise ValueError("run_at has no timezone; for example datetime.now(UTC) + timedelta(minutes=5)")
    if not _EARLIEST <= run_at <= _LATEST:
        raise ValueError(f"run_at is {run_at.isoformat()}; wanted {_EARLIEST.date()} to {_LATEST.date()}")
    return run_at.isoformat()


def _uuid(value: object) -> UUID:
    # psycopg gives a UUID, asyncpg a subclass of its own, psycopg2 text.
    return UUID(str(value))


@cache
def _statement(name: str) -> TextClause:
    return text(queries.load(name).decode())
