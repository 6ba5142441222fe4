"""What becomes of a job when its handler returns, fails, takes too long or is stopped."""

# ruff: noqa: ARG001 (handlers are given a payload and a job, and fixtures act, whether they are used or not)

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from outboxkit import Fail, Handlers, Job, Retry, logs
from waiting import until


class Order(msgspec.Struct):
    """A payload."""

    order_id: int


class TestReturns:
    """The handler returned."""

    def test_the_payload_and_the_job_are_as_enqueued(self, start_worker: Any, jobs: Any) -> None:
        """The payload is of the handler's own type, and the job tells which attempt it is; the result is stored."""
        handlers = Handlers()

        @handlers.register("ORDER", max_attempts=7)
        async def order(payload: Order, job: Job) -> dict[str, Any]:
            assert isinstance(payload, Order)
            return {"order": payload.order_id, "job": job.id, "attempt": job.attempt, "of": job.max_attempts}

        job = jobs.enqueue("ORDER", {"order_id": 5})
        start_worker(handlers, mode="db")
        row = jobs.await_state(job, "succeeded")
        assert row["result"] == {"order": 5, "job": str(job), "attempt": 1, "of": 7}
        assert (row["lease_until"], row["errors"]) == (None, [])

    @pytest.mark.parametrize(
        ("value", "why"),
        [(object(), "object"), (float("nan"), "nan"), ("a\0b", "NUL"), ("x" * 70_000, "70002 characters")],
    )
    def test_a_result_that_cannot_be_stored_fails_the_job(
        self, start_worker: Any, jobs: Any, value: object, why: str
    ) -> None:
        """At once, saying so, and what was done through job.session is rolled back."""
        handlers = Handlers()

        @handlers.register("ODD")
        async def odd(payload: dict[str, Any], job: Job) -> object:
            await job.enqueue("CHILD")
            return value

        job = jobs.enqueue("ODD")
        start_worker(handlers, mode="db")
        row = jobs.await_state(job, "failed")
        assert row["attempt"] == 1
        assert [(e["reason"], why in e["error"]) for e in row["errors"]] == [("unusable-result", True)]
        assert jobs.one("select count(*) as n from outboxkit.jobs")["n"] == 1

    def test_a_plain_function_runs_in_a_thread(self, start_worker: Any, jobs: Any) -> None:
        """And does not hold up the event loop: two that wait for each other both end."""
        handlers = Handlers()
        meeting = threading.Barrier(2, timeout=20)

        @handlers.register("MEET")
        def meet(payload: dict[str, Any], job: Job) -> str:
            meeting.wait()
            return threading.current_thread().name

        first, second = jobs.enqueue("MEET"), jobs.enqueue("MEET")
        start_worker(handlers, mode="db")
        for job in (first, second):
            assert jobs.await_state(job, "succeeded")["result"] == "outboxkit-MEET"

    def test_a_plain_function_is_told_that_it_has_no_session(self, start_worker: Any, jobs: Any) -> None:
        """job.session belongs to the event loop."""
        handlers = Handlers()

        @handlers.register("SYNC", max_attempts=1)
        def sync(payload: dict[str, Any], job: Job) -> None:
            _ = job.session

        job = jobs.enqueue("SYNC")
        start_worker(handlers, mode="db")
        assert "async def" in jobs.await_state(job, "failed")["errors"][0]["error"]


class TestFailures:
    """The handler raised."""

    def test_a_retry_then_success(self, start_worker: Any, jobs: Any) -> None:
        """Each attempt has its number; only the failures are in the history."""
        handlers = Handlers()

        @handlers.register("FLAKY")
        async def flaky(payload: dict[str, Any], job: Job) -> int:
            if job.attempt == 1:
                raise Retry("the bank is closed", after=0)
            if job.attempt == 2:
                raise ConnectionError("the bank burns")
            return job.attempt

        job = jobs.enqueue("FLAKY")
        start_worker(handlers, mode="db", poll_interval=0.02)
        row = jobs.await_state(job, "succeeded")
        assert (row["attempt"], row["result"]) == (3, 3)
        assert [(e["attempt"], e["reason"], e["error"]) for e in row["errors"]] == [
            (1, "retry-asked", "the bank is closed"),
            (2, "handler-error", "ConnectionError: the bank burns"),
        ]
        assert (jobs.triggers(job), jobs.letters(job)) == (0, [])

    @pytest.mark.parametrize("error", [ValueError("no"), Retry(after=0), SystemExit(1), asyncio.CancelledError()])
    def test_the_last_attempt_leaves_a_dead_letter(self, start_worker: Any, jobs: Any, error: BaseException) -> None:
        """Whatever is raised: after max_attempts the job is failed, with one dead letter and no trigger."""
        handlers = Handlers()

        @handlers.register("BROKEN", max_attempts=3)
        async def broken(payload: dict[str, Any], job: Job) -> None:
            raise error

        job = jobs.enqueue("BROKEN")
        worker = start_worker(handlers, mode="db", poll_interval=0.02)
        row = jobs.await_state(job, "failed")
        assert (row["attempt"], len(row["errors"]), jobs.triggers(job)) == (3, 3, 0)
        assert [(letter["stage"], letter["attempts"]) for letter in jobs.letters(job)] == [("job", 3)]
        assert worker.ready()["status"] == "ready"

    @pytest.mark.parametrize(
        ("payload", "reason", "error"),
        [({"order_id": 5}, "handler-failed", "no such order"), ({"order_id": "x"}, "invalid-payload", "$.order_id")],
    )
    def test_trying_again_is_no_use(
        self, start_worker: Any, jobs: Any, payload: dict[str, Any], reason: str, error: str
    ) -> None:
        """Fail, and a payload of another shape, end the job at its first attempt."""
        handlers = Handlers()

        @handlers.register("ORDER", max_attempts=5)
        async def order(payload: Order, job: Job) -> None:
            raise Fail("no such order")

        job = jobs.enqueue("ORDER", payload)
        start_worker(handlers, mode="db")
        assert jobs.await_state(job, "failed")["attempt"] == 1
        [letter] = jobs.letters(job)
        assert letter["reason"] == reason
        assert error in letter["last_error"]

    def test_a_plain_function_that_raises(self, start_worker: Any, jobs: Any) -> None:
        """Is no different, also when it raises what a future cannot carry, or wants to end the process."""
        handlers = Handlers()

        @handlers.register("SYNC", max_attempts=3)
        def sync(payload: dict[str, Any], job: Job) -> None:
            raise (ValueError, StopIteration, SystemExit)[job.attempt - 1]("here")

        job = jobs.enqueue("SYNC")
        start_worker(handlers, mode="db", poll_interval=0.02)
        assert len(jobs.await_state(job, "failed")["errors"]) == 3

    def test_every_line_about_a_job_says_which(
        self, start_worker: Any, jobs: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Job id, attempt and traceparent, in the handler's own lines and in ours."""
        handlers = Handlers()

        @handlers.register("TALK")
        async def talk(payload: dict[str, Any], job: Job) -> None:
            logging.getLogger("app").warning("hello")

        lines: list[dict[str, Any]] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                lines.append(msgspec.json.decode(logs._Json().format(record)))

        keep = Keep()
        logging.getLogger().addHandler(keep)
        try:
            with caplog.at_level(logging.INFO):
                job = jobs.enqueue("TALK", traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-00")
                start_worker(handlers).trigger(job, prefer="wait=20")
        finally:
            logging.getLogger().removeHandler(keep)
        about = [line for line in lines if line["logger"] in ("app", "outboxkit_worker.runner")]
        assert [line["message"].partition("(")[0] for line in about] == ["hello", "TALK: Done. "]
        for line in about:
            assert (line["job_id"], line["attempt"], line["traceparent"][3:5]) == (str(job), 1, "11")
        assert [line["job_id"] for line in lines if line["message"] == "Received trigger"] == [str(job)]


class TestLimits:
    """Timeouts and cancellation."""

    def test_a_handler_that_takes_too_long(self, start_worker: Any, jobs: Any) -> None:
        """Is cancelled; the attempt counts as failed. A TimeoutError of its own is only an error."""
        handlers = Handlers()

        @handlers.register("SLOW", max_attempts=1, timeout=0.05)
        async def slow(payload: dict[str, Any], job: Job) -> None:
            await asyncio.Event().wait()

        @handlers.register("IMPATIENT", max_attempts=1)
        async def impatient(payload: dict[str, Any], job: Job) -> None:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()

        slow_job, impatient_job = jobs.enqueue("SLOW"), jobs.enqueue("IMPATIENT")
        start_worker(handlers, mode="db")
        error = jobs.await_state(slow_job, "failed")["errors"][0]
        assert (error["reason"], "0.05 s" in error["error"]) == ("timeout", True)
        assert jobs.await_state(impatient_job, "failed")["errors"][0]["reason"] == "handler-error"

    def test_a_thread_that_takes_too_long_keeps_its_slot(self, start_worker: Any, jobs: Any, gate: Any) -> None:
        """The attempt ends with the timeout; the thread goes on, and the job is not run beside it here."""
        handlers = Handlers()

        @handlers.register("HANG", timeout=0.1)
        def hang(payload: dict[str, Any], job: Job) -> int:
            if job.attempt == 1:
                asyncio.run(gate.passed())
            return job.attempt

        @handlers.register("NOOP")
        def noop(payload: dict[str, Any], job: Job) -> None:
            pass

        job = jobs.enqueue("HANG")
        worker = start_worker(handlers, mode="db", poll_interval=0.02, concurrency=2)
        until(lambda: jobs.row(job)["errors"], what="the attempt to end")
        assert (jobs.state(job), jobs.row(job)["errors"][0]["reason"]) == ("queued", "timeout")
        assert worker.trigger(job).json()["type"].endswith("busy")
        jobs.await_state(jobs.enqueue("NOOP"), "succeeded")  # the poller had its chance, and passed the other over
        assert jobs.row(job)["attempt"] == 1
        gate.open()
        assert jobs.await_state(job, "succeeded")["result"] == 2

    def test_a_running_job_is_cancelled(self, start_worker: Any, jobs: Any, gate: Any) -> None:
        """Its handler is cancelled, and what it did through job.session is rolled back."""
        handlers = Handlers()
        cleaned = threading.Event()

        @handlers.register("LONG")
        async def long(payload: dict[str, Any], job: Job) -> None:
            try:
                await job.enqueue("CHILD")
                await gate.passed()
            finally:
                assert job.cancelled
                cleaned.set()

        job = jobs.enqueue("LONG")
        worker = start_worker(handlers, mode="db", lease=1)
        gate.await_entry()
        jobs.connection.execute("update outboxkit.jobs set cancel_requested_at = now() where id = %s", [job])
        row = jobs.await_state(job, "cancelled")
        assert cleaned.is_set()
        assert (row["finished_at"] is not None, jobs.triggers(job), jobs.letters(job)) == (True, 0, [])
        assert jobs.one("select count(*) as n from outboxkit.jobs")["n"] == 1
        assert worker.trigger(job).json()["state"] == "cancelled"

    @pytest.mark.parametrize(("looks", "state"), [(True, "cancelled"), (False, "succeeded")])
    def test_a_thread_honours_cancellation_by_looking(
        self, start_worker: Any, jobs: Any, looks: bool, state: str
    ) -> None:
        """One that returns early because job.cancelled is true ends as cancelled; one that never looks has succeeded."""
        handlers = Handlers()
        entered = threading.Event()

        @handlers.register("SYNC")
        def sync(payload: dict[str, Any], job: Job) -> None:
            entered.set()
            if looks:
                until(lambda: job.cancelled, what="the cancellation to be seen")
            else:
                until(lambda: job._attempt.stop is not None, what="the cancellation to be known")

        job = jobs.enqueue("SYNC")
        start_worker(handlers, mode="db", lease=1)
        assert entered.wait(20)
        jobs.connection.execute("update outboxkit.jobs set cancel_requested_at = now() where id = %s", [job])
        assert jobs.await_state(job, "cancelled", "succeeded")["state"] == state

    def test_progress_is_stored_while_the_job_runs(self, start_worker: Any, jobs: Any, gate: Any) -> None:
        """Within about a second, however long the lease is."""
        handlers = Handlers()

        @handlers.register("LONG")
        async def long(payload: dict[str, Any], job: Job) -> None:
            job.progress(2, 5, "rendering")
            await gate.passed()

        job = jobs.enqueue("LONG")
        start_worker(handlers, mode="db", lease=1800)
        gate.await_entry()
        until(lambda: jobs.row(job)["progress"], what="progress")
        assert jobs.row(job)["progress"] == {"done": 2, "total": 5, "note": "rendering"}


class TestApp:
    """What the application brings along."""

    def test_handlers_see_what_lifespan_yielded(self, start_worker: Any, jobs: Any) -> None:
        """As job.app; it is made before the first job and closed after the last."""
        events: list[str] = []

        @asynccontextmanager
        async def lifespan(engine: AsyncEngine) -> AsyncIterator[str]:
            async with engine.connect() as connection:
                events.append((await connection.execute(text("select 'opened'"))).scalar_one())
            yield "the mailer"
            events.append("closed")

        handlers = Handlers()

        @handlers.register("MAIL")
        async def mail(payload: dict[str, Any], job: Job) -> str:
            events.append("used")
            return str(job.app)

        worker = start_worker(handlers, lifespan=lifespan)
        job = jobs.enqueue("MAIL")
        worker.trigger(job, prefer="wait=20")
        worker.stop()
        assert jobs.row(job)["result"] == "the mailer"
        assert events == ["opened", "used", "closed"]
