"""Leases: kept while a handler works, however busy the process is; lost for good when they are lost."""

# ruff: noqa: ARG001 (handlers are given a payload and a job, whether they need them or not)

from __future__ import annotations

import asyncio
import logging
import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from databases import Database
from outboxkit import Handlers, Job, leases
from outboxkit.sweeps import SweepLimits, heal
from waiting import until


def handlers_with(function: Any, **limits: Any) -> Handlers:
    """A registry with this one handler, as LONG."""
    made = Handlers()
    made.register("LONG", **limits)(function)
    return made


async def sweep(database: Database) -> int:
    """Sweep expired leases once; returns how many there were."""
    async with await database.connect() as connection:
        swept = await heal(connection, SweepLimits())
    return swept.requeued + swept.failed


def renewed(jobs: Any, job: Any, times: int = 2) -> None:
    """Wait until the lease has been extended so many times."""
    seen = set()

    def enough() -> bool:
        seen.add(jobs.row(job)["lease_until"])
        return len(seen) > times

    until(enough, what="heartbeats")


def test_a_lease_is_extended_while_the_handler_works(start_worker: Any, jobs: Any, gate: Any) -> None:
    """Past its length, until the job is done."""

    async def long(payload: dict[str, Any], job: Job) -> None:
        await gate.passed()

    job = jobs.enqueue("LONG")
    start_worker(handlers_with(long), lease=1).trigger(job)
    renewed(jobs, job, 4)
    gate.open()
    assert jobs.await_state(job, "succeeded")["attempt"] == 1


async def test_work_on_the_event_loop_cannot_lose_the_lease(start_worker: Any, jobs: Any, database: Database) -> None:
    """A handler that blocks the loop for longer than the lease keeps it: heartbeats have a thread of their own."""
    blocked, go_on = threading.Event(), threading.Event()

    async def block(payload: dict[str, Any], job: Job) -> None:
        blocked.set()
        go_on.wait(20)

    job = jobs.enqueue("LONG")
    start_worker(handlers_with(block), mode="db", lease=1)
    await asyncio.to_thread(blocked.wait, 20)
    await asyncio.to_thread(renewed, jobs, job, 4)
    assert await sweep(database) == 0
    go_on.set()
    row = await asyncio.to_thread(jobs.await_state, job, "succeeded")
    assert row["attempt"] == 1


async def test_a_loop_that_hangs_loses_its_leases(start_worker: Any, jobs: Any, database: Database) -> None:
    """Past start plus timeout the lease is not extended, and a sweep gives the job to others."""
    hung, go_on = threading.Event(), threading.Event()

    async def hang(payload: dict[str, Any], job: Job) -> None:
        hung.set()
        go_on.wait(20)

    job = jobs.enqueue("LONG")
    start_worker(handlers_with(hang, timeout=0.2), lease=1, mode="db")
    await asyncio.to_thread(hung.wait, 20)
    deadline = time.monotonic() + 20
    while not await sweep(database):
        assert time.monotonic() < deadline, "the lease never ran out"
    assert jobs.row(job)["errors"][0]["reason"] == "lease-expired"
    go_on.set()


def test_a_lost_lease_stops_the_handler(
    start_worker: Any, jobs: Any, gate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The heartbeat learns of it; the handler is cancelled and nothing is written, but logged."""
    stopped = threading.Event()

    async def long(payload: dict[str, Any], job: Job) -> None:
        try:
            await gate.passed()
        finally:
            stopped.set()

    job = jobs.enqueue("LONG")
    with caplog.at_level(logging.WARNING):
        start_worker(handlers_with(long), lease=1).trigger(job)
        gate.await_entry()
        jobs.take_over(job)
        before = jobs.row(job)
        assert stopped.wait(20)
        until(lambda: "another worker has the job" in caplog.text, what="the log line")
    assert jobs.row(job) == before


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_stale_attempt_writes_nothing(
    start_worker: Any, jobs: Any, gate: Any, ends: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it succeeds or fails after the job was taken over."""

    async def long(payload: dict[str, Any], job: Job) -> str:
        await gate.passed()
        if ends == "raises":
            raise ValueError
        return "stale"

    job = jobs.enqueue("LONG")
    start_worker(handlers_with(long), lease=1800).trigger(job)
    gate.await_entry()
    jobs.take_over(job)
    before = jobs.row(job)
    with caplog.at_level(logging.WARNING):
        gate.open()
        until(lambda: "another worker has the job" in caplog.text, what="the attempt to end")
    assert (jobs.row(job), jobs.triggers(job), jobs.letters(job)) == (before, 0, [])


def test_a_zombie_s_heartbeat_extends_nothing(jobs: Any, database: Database) -> None:
    """A worker that has slept through its lease learns that it is lost, and does not extend its successor's."""
    job = jobs.enqueue("LONG")
    zombie = uuid4()
    jobs.connection.execute(
        "update outboxkit.jobs set state = 'running', attempt = 1, leased_by = %s where id = %s", [zombie, job]
    )
    with database.sync() as connection:
        beat = {"worker": zombie, "lease": timedelta(seconds=30)}
        assert leases.heartbeat(connection, [(job, 1, None)], **beat) == (set(), set())
        jobs.take_over(job)
        before = jobs.row(job)
        assert leases.heartbeat(connection, [(job, 1, '{"done": 1}')], **beat) == (set(), {job})
    assert jobs.row(job) == before


def test_heartbeats_survive_their_connection(start_worker: Any, jobs: Any, gate: Any) -> None:
    """When the backend is killed the next heartbeat makes a new connection."""

    async def long(payload: dict[str, Any], job: Job) -> None:
        await gate.passed()

    job = jobs.enqueue("LONG")
    start_worker(handlers_with(long), lease=1).trigger(job)
    renewed(jobs, job)
    killed = jobs.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outboxkit-worker-heartbeats'"
    ).fetchall()
    assert len(killed) == 1
    renewed(jobs, job)
    gate.open()
    jobs.await_state(job, "succeeded")
