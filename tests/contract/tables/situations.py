"""Situations that a job may be in when a statement meets it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg

# Who runs the statement, and which attempt it names.
WORKER, OTHER = uuid4(), uuid4()
ATTEMPT = 1

Connection = psycopg.Connection[Any]
Situation = Callable[[Connection], UUID]

_RUNNING = (
    "update outboxkit.jobs set state = 'running', attempt = 1, max_attempts = 3, leased_by = %s, started_at = now(),"
    " lease_until = now() + interval '20 minutes' where id = %s"
)


def _enqueued(connection: Connection, kind: str = "K", **values: Any) -> UUID:
    names = "".join(f", {name} => %s" for name in values)
    row = connection.execute(
        f"select outboxkit.enqueue_job(%s, '{{\"n\": 1}}'{names})".encode(), [kind, *values.values()]
    ).fetchone()
    assert row is not None
    job: UUID = row[0]
    return job


def _changed(connection: Connection, job: UUID, changes: str) -> UUID:
    connection.execute(f"update outboxkit.jobs set {changes} where id = %s".encode(), [job])  # noqa: S608 (ours)
    return job


def _running(connection: Connection, changes: str = "attempt = attempt") -> UUID:
    job = _enqueued(connection, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    connection.execute("delete from outboxkit.outbox where job_id = %s", [job])
    connection.execute(_RUNNING, [WORKER, job])
    return _changed(connection, job, changes)


def _ended(connection: Connection, state: str) -> UUID:
    return _changed(connection, _running(connection), f"state = '{state}', lease_until = null, finished_at = now()")


def _dead(connection: Connection, changes: str = "attempt = attempt") -> UUID:
    job = _changed(connection, _ended(connection, "failed"), changes)
    connection.execute(
        "insert into outboxkit.dead_letters (job_id, queue, kind, stage, reason, attempts, died_at)"
        " values (%s, 'default', 'K', 'job', 'handler-error', 3, now())",
        [job],
    )
    return job


def _replayed(connection: Connection) -> UUID:
    job = _dead(connection)
    connection.execute("update outboxkit.dead_letters set replayed_at = now(), replayed_by = 'somebody'")
    return job


def _twice_triggered(connection: Connection) -> UUID:
    job = _enqueued(connection, queue="other")
    connection.execute(
        "insert into outboxkit.outbox (job_id, queue, kind, due_at, created_at) values (%s, 'other', 'K', now(), now())",
        [job],
    )
    return job


def _stranded(connection: Connection) -> UUID:
    job = _changed(connection, _enqueued(connection), "rescue_at = now() - interval '1 hour', rescues = 3")
    connection.execute("delete from outboxkit.outbox where job_id = %s", [job])
    return job


_FAILURES = "(select jsonb_agg(jsonb_build_object('attempt', n)) from generate_series(1, 20) n)"

SITUATIONS: dict[str, Situation] = {
    "queued": _enqueued,
    "queued for later": lambda c: _changed(c, _enqueued(c), "run_at = now() + interval '1 hour'"),
    "queued, long overdue": lambda c: _changed(c, _enqueued(c), "run_at = now() - interval '2 minutes'"),
    "queued, of another kind": lambda c: _enqueued(c, "OTHER"),
    "queued with a limit of its own": lambda c: _enqueued(c, max_attempts=7),
    "queued with two triggers": _twice_triggered,
    "queued again after one attempt": lambda c: _changed(c, _running(c), "state = 'queued', lease_until = null"),
    "stranded": _stranded,
    "running here": _running,
    "running here, with progress": lambda c: _running(c, "progress = '{\"done\": 1}'"),
    "running here, last attempt": lambda c: _running(c, "max_attempts = 1"),
    "running here, to be cancelled": lambda c: _running(c, "cancel_requested_at = now()"),
    "running here, last attempt, to be cancelled": lambda c: _running(
        c, "max_attempts = 1, cancel_requested_at = now()"
    ),
    "running here, lease over": lambda c: _running(c, "lease_until = now() - interval '1 hour'"),
    "running here, twenty failures": lambda c: _running(c, f"errors = {_FAILURES}"),
    "running here, a later attempt": lambda c: _running(c, "attempt = 2"),
    "running elsewhere": lambda c: _running(c, f"leased_by = '{OTHER}'"),
    "succeeded": lambda c: _ended(c, "succeeded"),
    "cancelled": lambda c: _ended(c, "cancelled"),
    "failed, its letter open": _dead,
    "failed, never claimed": lambda c: _dead(c, "attempt = 0, max_attempts = null, leased_by = null"),
    "failed, its letter replayed": _replayed,
    "not there": lambda _: uuid4(),
}
