"""A Python worker's poller and shell workers on one queue: each job runs once, whoever takes it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from contract.tables.conftest import Logins, Shell
from databases import Database
from outboxkit import Handlers, Job
from outboxkit.application import Application
from waiting import until
from workers import Worker, settings_for

JOBS = 200
SHELLS = 3

handlers = Handlers()


@handlers.register("COUNT")
async def count(payload: dict[str, Any], job: Job) -> None:  # noqa: ARG001 (every handler is given its payload)
    """Count the job in the transaction that completes it."""
    values = {"job": job.id, "attempt": job.attempt}
    await job.session.execute(text("insert into effects values (:job, :attempt, 'python')"), values)


@pytest.fixture
def start_python(logins: Logins) -> Iterator[Callable[[], Worker]]:
    """Start a worker of the kit that polls; one job at a time, so that it leaves some to the others."""
    started: list[Worker] = []

    def start() -> Worker:
        settings = settings_for(logins.url("worker"), mode="db", poll_interval=0.05, concurrency=1, sweep_interval=0.2)
        started.append(Worker(settings, Application(name="tests", handlers=handlers)))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


def test_each_job_runs_once(database: Database, shell: Shell, start_python: Callable[[], Worker]) -> None:
    """Two hundred jobs, three shell workers and one of Python's: everybody has a share, and no job has two effects."""
    command = shell.command(
        "echo \"insert into effects values ('$JOB_ID', $JOB_ATTEMPT, '$PPID');\""  # the script that runs it
    )
    with database.sync() as connection:

        def numbers(query: str) -> tuple[Any, ...]:
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            return row

        connection.execute("select outboxkit.enqueue_job('COUNT') from generate_series(1, %s)", [JOBS])
        for _ in range(SHELLS):
            shell.work("COUNT", command)
        shells = "select count(distinct worker) from effects where worker <> 'python'"
        until(lambda: numbers(shells) == (SHELLS,), what="every shell worker to have had a job")
        start_python()
        until(lambda: numbers("select count(*) from outboxkit.jobs where state <> 'succeeded'") == (0,), what="the end")

        effects = "select count(*), count(distinct job_id), max(attempt) from effects"
        assert numbers(effects) == (JOBS, JOBS, 1)
        (by_python,) = numbers("select count(*) from effects where worker = 'python'")
        assert 0 < by_python < JOBS
        assert numbers("select count(*), count(distinct leased_by) from outboxkit.jobs") == (JOBS, SHELLS + 1)
        assert numbers("select count(*) from outboxkit.outbox") == (0,)
