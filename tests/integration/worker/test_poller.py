"""The poller: everything in db mode, the overdue in the modes that push, nothing in mode none."""

# ruff: noqa: ARG001 (handlers are given a payload and a job, whether they need them or not)

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import psycopg
import pytest

from outboxkit import Handlers, Job
from waiting import until

WAKE = "select pg_notify('outboxkit_wake', '')"


@pytest.fixture
def handlers() -> Handlers:
    """NOOP alone."""
    made = Handlers()

    @made.register("NOOP")
    async def noop(payload: dict[str, Any], job: Job) -> None:
        pass

    return made


def publish(jobs: Any, mode: str) -> None:
    """Be a live relay that has put this mode in force."""
    jobs.connection.execute(
        "update outboxkit.trigger_settings set effective_mode = %s, published_at = clock_timestamp() + interval '1 day'",
        [mode],
    )


def listening(jobs: Any) -> None:
    """Wait until the worker listens."""
    query = "select count(*) as n from pg_stat_activity where query = 'listen outboxkit_wake' and state = 'idle'"
    until(lambda: jobs.one(query)["n"], what="the worker to listen")


def test_db_mode_drains_everything_that_is_due(start_worker: Any, handlers: Handlers, jobs: Any) -> None:
    """More jobs than slots, in one go, each once, and their triggers with them; what is not due stays."""
    wanted = [jobs.enqueue("NOOP") for _ in range(300)]
    later, strange = jobs.enqueue("NOOP", due_in=60), jobs.enqueue("STRANGE")
    start_worker(handlers, mode="db", concurrency=16, poll_interval=3600)
    until(
        lambda: jobs.one("select count(*) as n from outboxkit.jobs where state = 'succeeded'")["n"] == 300, what="all"
    )
    done = jobs.one(
        "select min(attempt) as least, max(attempt) as most from outboxkit.jobs where id = any(%s)", [wanted]
    )
    assert (done["least"], done["most"]) == (1, 1)
    assert [jobs.state(later), jobs.state(strange)] == ["queued", "queued"]
    assert jobs.one("select count(*) as n from outboxkit.outbox")["n"] == 2


def test_two_workers_share_the_jobs(start_worker: Any, handlers: Handlers, jobs: Any) -> None:
    """Each job is run by one of them, once."""
    workers = [start_worker(handlers, mode="db", concurrency=8, poll_interval=0.02) for _ in range(2)]
    for _ in range(300):
        jobs.enqueue("NOOP")
    until(lambda: jobs.one("select count(*) as n from outboxkit.jobs where state <> 'succeeded'")["n"] == 0, what="all")
    assert jobs.one("select max(attempt) as most from outboxkit.jobs")["most"] == 1
    assert len(workers) == 2


def test_a_wake_up_is_heard(start_worker: Any, handlers: Handlers, jobs: Any) -> None:
    """NOTIFY starts a round at once, however long the poll interval is."""
    start_worker(handlers, mode="db", poll_interval=3600)
    listening(jobs)
    for _ in range(3):
        job = jobs.enqueue("NOOP")
        jobs.connection.execute(WAKE)
        jobs.await_state(job, "succeeded")


def test_db_mode_polls_where_nothing_is_heard(start_worker: Any, handlers: Handlers, jobs: Any) -> None:
    """Without any NOTIFY (a pooler, a producer in another language) the interval finds the job."""
    start_worker(handlers, mode="db", poll_interval=0.02)
    jobs.await_state(jobs.enqueue("NOOP"), "succeeded")


@pytest.mark.parametrize("mode", ["http", "cloud-tasks"])
def test_push_modes_poll_for_the_overdue_alone(start_worker: Any, handlers: Handlers, jobs: Any, mode: str) -> None:
    """What has been due for longer than the safety interval is claimed; what may still be on its way is not."""
    overdue, fresh = jobs.enqueue("NOOP"), jobs.enqueue("NOOP")
    jobs.connection.execute("update outboxkit.jobs set run_at = now() - interval '1 hour' where id = %s", [overdue])
    start_worker(handlers, mode=mode, safety_poll=60, poll_interval=0.02)
    for _ in range(3):
        jobs.connection.execute(WAKE)
    assert (jobs.state(overdue), jobs.state(fresh)) == ("queued", "queued")
    start_worker(handlers, mode=mode, safety_poll=1, poll_interval=0.02)
    jobs.connection.execute("update outboxkit.jobs set run_at = now() + interval '1 hour' where id = %s", [fresh])
    jobs.await_state(overdue, "succeeded")
    assert jobs.state(fresh) == "queued"


def test_mode_none_claims_nothing(start_worker: Any, handlers: Handlers, jobs: Any) -> None:
    """And a live relay's word counts more than JOB_TRIGGER_MODE, at once and when it changes."""
    publish(jobs, "none")
    job = jobs.enqueue("NOOP")
    jobs.connection.execute("update outboxkit.jobs set run_at = now() - interval '1 hour' where id = %s", [job])
    worker = start_worker(handlers, mode="db", safety_poll=0.1, poll_interval=0.02)
    until(lambda: worker.ready()["mode"] == "none", what="the mode to be known")
    listening(jobs)
    before = time.monotonic()
    while time.monotonic() < before + 0.5:  # twenty-five poll intervals, five safety intervals
        jobs.connection.execute(WAKE)
        assert jobs.state(job) == "queued"
    publish(jobs, "db")
    jobs.await_state(job, "succeeded")


def test_without_a_live_relay_the_worker_s_own_mode_counts(start_worker: Any, handlers: Handlers, jobs: Any) -> None:
    """What a relay published long ago is no longer in force."""
    publish(jobs, "none")
    jobs.connection.execute("update outboxkit.trigger_settings set published_at = now() - interval '1 hour'")
    start_worker(handlers, mode="db", poll_interval=0.02)
    jobs.await_state(jobs.enqueue("NOOP"), "succeeded")


def test_a_full_worker_claims_no_more(start_worker: Any, jobs: Any, gate: Any) -> None:
    """It claims as many as it has slots, and the next when one is free."""
    made = Handlers()
    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    @made.register("COUNT")
    async def count(payload: dict[str, Any], job: Job) -> None:
        with lock:
            running.append(1)
            most.append(len(running))
        await gate.passed()
        with lock:
            running.pop()

    wanted = [jobs.enqueue("COUNT") for _ in range(20)]
    start_worker(made, mode="db", concurrency=3, poll_interval=0.02)
    for _ in range(3):
        gate.await_entry()
    assert jobs.one("select count(*) as n from outboxkit.jobs where state = 'running'")["n"] == 3
    gate.open()
    for job in wanted:
        jobs.await_state(job, "succeeded")
    assert max(most) == 3


def test_a_job_that_comes_back_while_its_old_handler_goes_on_is_left_to_others(
    start_worker: Any, jobs: Any, gate: Any
) -> None:
    """It is given back without counting, and then passed over until the old handler has ended."""
    made = Handlers()

    @made.register("STUBBORN", max_attempts=2)
    def stubborn(payload: dict[str, Any], job: Job) -> int:
        asyncio.run(gate.passed())
        return job.attempt

    @made.register("NOOP")
    def noop(payload: dict[str, Any], job: Job) -> None:
        pass

    job = jobs.enqueue("STUBBORN")
    start_worker(made, mode="db", lease=1800, poll_interval=0.02)
    gate.await_entry()
    jobs.requeue(job)
    until(lambda: jobs.row(job)["max_attempts"] == 3, what="the job to be given back")
    for _ in range(3):
        jobs.await_state(jobs.enqueue("NOOP"), "succeeded")
    row = jobs.row(job)
    assert (row["state"], row["attempt"], row["errors"]) == ("queued", 2, [])
    gate.open()
    assert jobs.await_state(job, "succeeded")["result"] == 3


def test_polling_survives_a_restart_of_postgres(start_bare: Any, handlers: Handlers, private_postgres: Any) -> None:
    """The next round is tried, and the jobs are found."""
    start_bare(private_postgres.url, handlers, mode="db", poll_interval=0.02)
    for _ in range(2):
        enqueue_and_wait(private_postgres.url)
        private_postgres.restart()
    enqueue_and_wait(private_postgres.url)


def enqueue_and_wait(url: str) -> None:
    """Enqueue a job, and wait until all have succeeded."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select outboxkit.enqueue_job('NOOP')")
        query = "select count(*) from outboxkit.jobs where state <> 'succeeded'"
        until(lambda: connection.execute(query).fetchone() == (0,), what="the jobs")
