"""Every answer of POST /process-job, over a socket."""

# ruff: noqa: ARG001, ARG002 (handlers are given a payload and a job, and fixtures act, whether they are used or not)

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from databases import Database
from outboxkit import Fail, Handlers, Job, Retry, traces
from outboxkit.settings import Secret
from outboxkit_cli.embedded import EmbeddedPostgres
from waiting import until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def handlers(gate: Any) -> Handlers:
    """NOOP, WAIT (at the gate), RETRY, FAIL and TRACE."""
    made = Handlers()

    @made.register("NOOP")
    async def noop(payload: dict[str, Any], job: Job) -> None:
        pass

    @made.register("WAIT")
    async def wait(payload: dict[str, Any], job: Job) -> None:
        await gate.passed()

    @made.register("RETRY", max_attempts=5)
    async def retry(payload: dict[str, Any], job: Job) -> None:
        raise Retry(after=4)

    @made.register("FAIL")
    async def fail(payload: dict[str, Any], job: Job) -> None:
        raise Fail("the order does not exist")

    @made.register("TRACE")
    async def trace(payload: dict[str, Any], job: Job) -> list[str | None]:
        await job.enqueue("CHILD")
        return [job.traceparent, traces.current.get()]

    return made


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check that this is the problem; returns the document."""
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["type"]) == (status, f"urn:outboxkit:problem:{slug}")
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    return document


def answer(response: httpx.Response, status: int, **members: Any) -> None:
    """Check that this is an answer with these members."""
    assert response.status_code == status, response.text
    document = response.json()
    assert document["accepted"] is True
    assert {name: document[name] for name in members} == members


class TestClaims:
    """A trigger whose job can be claimed."""

    def test_the_answer_comes_with_the_claim(self, start_worker: Any, handlers: Handlers, jobs: Any, gate: Any) -> None:
        """Without Prefer the answer is 202 while the handler runs; then the job succeeds, and its trigger is gone."""
        job = jobs.enqueue("WAIT")
        response = start_worker(handlers).trigger(job)
        answer(response, 202, jobId=str(job), state="running", duplicate=False)
        assert "preference-applied" not in response.headers
        assert jobs.state(job) == "running"
        gate.open()
        row = jobs.await_state(job, "succeeded")
        assert (row["attempt"], jobs.triggers(job)) == (1, 0)

    def test_a_job_due_within_two_seconds_is_claimed(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """Clocks differ: a trigger that comes a little early is not sent back."""
        answer(start_worker(handlers).trigger(jobs.enqueue("NOOP", due_in=1.5)), 202, duplicate=False)

    def test_many_triggers_for_one_job_run_it_once(
        self, start_worker: Any, handlers: Handlers, jobs: Any, gate: Any
    ) -> None:
        """Of twenty concurrent triggers one claims the job; the others are told that it is running."""
        job = jobs.enqueue("WAIT")
        worker = start_worker(handlers)
        with ThreadPoolExecutor(20) as pool:
            responses = list(pool.map(worker.trigger, [job] * 20))
        assert {r.status_code for r in responses} == {202}
        assert Counter(r.json()["duplicate"] for r in responses) == {False: 1, True: 19}
        gate.open()
        assert jobs.await_state(job, "succeeded")["attempt"] == 1

    def test_many_jobs_at_once_each_run_once(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """Concurrent triggers share statements, and each job gets its own attempt."""
        wanted = [jobs.enqueue("NOOP") for _ in range(200)]
        worker = start_worker(handlers)
        with ThreadPoolExecutor(20) as pool:
            responses = list(pool.map(lambda job: worker.trigger(job, prefer="wait=20"), wanted))
        assert [(r.status_code, r.json()["jobId"], r.json()["state"]) for r in responses] == [
            (200, str(job), "succeeded") for job in wanted
        ]
        assert jobs.one("select sum(attempt) as n from outboxkit.jobs")["n"] == 200

    def test_a_claim_waits_for_a_locked_row(
        self, start_worker: Any, handlers: Handlers, jobs: Any, database: Database
    ) -> None:
        """A row that somebody else is writing is waited for, and never taken for a job that is running elsewhere."""
        job = jobs.enqueue("NOOP")
        worker = start_worker(handlers)
        with ThreadPoolExecutor(1) as pool, database.sync(autocommit=False) as other:
            other.execute("select from outboxkit.jobs where id = %s for update", [job])
            response = pool.submit(worker.trigger, job)
            until(
                lambda: jobs.one("select count(*) as n from pg_locks where not granted")["n"], what="the claim to wait"
            )
            other.rollback()
            answer(response.result(20), 202, duplicate=False)
        assert jobs.await_state(job, "succeeded")["attempt"] == 1

    def test_traceparent_of_the_trigger_wins(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """The run continues the trigger's trace, and so do the jobs it enqueues; a malformed one is ignored."""
        worker = start_worker(handlers)
        own = TRACE.replace("4b", "5b")
        for header, expected in ((TRACE, TRACE), ("nonsense", own)):
            job = jobs.enqueue("TRACE", traceparent=own)
            answer(worker.trigger(job, traceparent=header, prefer="wait=20"), 200, state="succeeded")
            assert jobs.row(job)["result"] == [expected, expected]
            child = jobs.one("select traceparent from outboxkit.jobs where kind = 'CHILD' order by id desc limit 1")
            assert child["traceparent"] == expected


class TestNoClaim:
    """A trigger whose job cannot be claimed: the answer is the job's state, read afresh."""

    def test_a_job_running_elsewhere(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """202, a duplicate."""
        job = jobs.enqueue("NOOP")
        jobs.take_over(job)
        answer(start_worker(handlers).trigger(job), 202, state="running", duplicate=True)

    def test_a_job_running_here(self, start_worker: Any, handlers: Handlers, jobs: Any, gate: Any) -> None:
        """202, a duplicate; also with a Prefer that asks to wait."""
        job = jobs.enqueue("WAIT")
        worker = start_worker(handlers)
        worker.trigger(job)
        answer(worker.trigger(job, prefer="wait=20"), 202, state="running", duplicate=True)
        assert jobs.row(job)["attempt"] == 1

    @pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
    def test_a_job_that_has_ended(self, start_worker: Any, handlers: Handlers, jobs: Any, state: str) -> None:
        """200, a duplicate, with the state it ended in."""
        job = jobs.enqueue("NOOP")
        jobs.connection.execute("update outboxkit.jobs set state = %s where id = %s", [state, job])
        answer(start_worker(handlers).trigger(job), 200, state=state, duplicate=True)

    def test_no_such_job(self, start_worker: Any, handlers: Handlers) -> None:
        """404 unknown-job, which is not the 404 of a wrong path."""
        worker = start_worker(handlers)
        job = uuid4()
        assert problem(worker.trigger(job), 404, "unknown-job")["jobId"] == str(job)
        problem(worker.client.post("/process", json={}), 404, "not-found")

    @pytest.mark.parametrize("kind", ["NOOP", "STRANGE"])
    def test_a_job_that_is_not_due(self, start_worker: Any, handlers: Handlers, jobs: Any, kind: str) -> None:
        """409 with the seconds until it is due, whatever its kind; nothing is claimed."""
        job = jobs.enqueue(kind, due_in=40)
        response = start_worker(handlers).trigger(job)
        document = problem(response, 409, "not-due")
        assert document["retryAfter"] == int(response.headers["retry-after"]) == 40
        assert (jobs.row(job)["attempt"], jobs.triggers(job)) == (0, 1)

    def test_a_kind_without_handler(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """422, names the kind, and leaves job and trigger as they are."""
        job = jobs.enqueue("STRANGE")
        document = problem(start_worker(handlers).trigger(job), 422, "unknown-kind")
        assert document["kind"] == "STRANGE"
        assert "NOOP" in document["detail"]
        assert (jobs.state(job), jobs.triggers(job)) == ("queued", 1)

    def test_a_queued_job_whose_old_handler_goes_on_here_is_refused(
        self, start_worker: Any, jobs: Any, gate: Any
    ) -> None:
        """503 busy, and no claim: one process never runs two attempts at a job side by side."""
        handlers = Handlers()

        @handlers.register("STUBBORN")
        def stubborn(payload: dict[str, Any], job: Job) -> None:
            asyncio.run(gate.passed())

        job = jobs.enqueue("STUBBORN")
        worker = start_worker(handlers)
        worker.trigger(job)
        gate.await_entry()
        jobs.requeue(job)
        response = worker.trigger(job)
        problem(response, 503, "busy")
        assert int(response.headers["retry-after"]) > 0
        assert (jobs.state(job), jobs.row(job)["attempt"]) == ("queued", 1)
        gate.open()
        until(lambda: worker.trigger(job).status_code != 503, what="the old handler to end")
        assert jobs.await_state(job, "succeeded")["attempt"] == 2


class TestSlots:
    """A worker with all its slots taken."""

    def test_a_full_worker_says_so(self, start_worker: Any, handlers: Handlers, jobs: Any, gate: Any) -> None:
        """429 with Retry-After, and the job is left alone; when a slot is free it is taken."""
        worker = start_worker(handlers, concurrency=2)
        for _ in range(2):
            worker.trigger(jobs.enqueue("WAIT"))
        job = jobs.enqueue("NOOP")
        response = worker.trigger(job)
        document = problem(response, 429, "worker-full")
        assert document["retryAfter"] == int(response.headers["retry-after"]) > 0
        assert (jobs.state(job), jobs.triggers(job)) == ("queued", 1)
        gate.open()
        until(lambda: worker.trigger(job).status_code == 202, what="a free slot")

    def test_no_slot_is_lost(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """Whatever the answer, the slot comes back: one slot serves every kind of trigger, one after the other."""
        worker = start_worker(handlers, concurrency=1)
        for _ in range(3):
            for job in (uuid4(), jobs.enqueue("STRANGE"), jobs.enqueue("NOOP", due_in=40), jobs.enqueue("FAIL")):
                assert worker.trigger(job, prefer="wait=20").status_code not in (429, 503)
        answer(worker.trigger(jobs.enqueue("NOOP"), prefer="wait=20"), 200, state="succeeded")

    def test_a_full_worker_asks_the_database_nothing(
        self, start_bare: Any, handlers: Handlers, private_postgres: EmbeddedPostgres, gate: Any
    ) -> None:
        """429 is answered without SQL: also when the database is gone."""
        worker = start_bare(private_postgres.url, handlers, concurrency=1)
        with psycopg.connect(private_postgres.url, autocommit=True) as connection:
            ids = [connection.execute("select outboxkit.enqueue_job('WAIT')").fetchone() for _ in range(2)]
        first, second = (row[0] for row in ids if row)
        answer(worker.trigger(first), 202)
        private_postgres.stop()
        problem(worker.trigger(second), 429, "worker-full")


class TestWaiting:
    """RFC 7240 Prefer: wait=N."""

    def test_the_answer_comes_when_the_job_is_done(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """200 with the state it ended in, and the N that was used."""
        response = start_worker(handlers).trigger(jobs.enqueue("NOOP"), prefer="respond-async, wait=10")
        answer(response, 200, state="succeeded", duplicate=False, message="Done.")
        assert response.headers["preference-applied"] == "wait=10"

    def test_after_n_seconds_the_job_goes_on(self, start_worker: Any, handlers: Handlers, jobs: Any, gate: Any) -> None:
        """202 after the wait; the handler is not touched."""
        job = jobs.enqueue("WAIT")
        response = start_worker(handlers).trigger(job, prefer="wait=1")
        answer(response, 202, state="running", duplicate=False)
        assert response.headers["preference-applied"] == "wait=1"
        gate.open()
        assert jobs.await_state(job, "succeeded")["attempt"] == 1

    def test_the_wait_is_capped(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """The worker may shorten N, and says by how much; 0 means not to wait."""
        worker = start_worker(handlers, wait_max=0)
        response = worker.trigger(jobs.enqueue("WAIT"), prefer="wait=3600")
        answer(response, 202, state="running")
        assert response.headers["preference-applied"] == "wait=0"

    def test_a_recorded_retry_is_a_delivered_trigger(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """200 with state queued: the job is retried by the jobs table, not by the relay."""
        job = jobs.enqueue("RETRY")
        answer(
            start_worker(handlers).trigger(job, prefer="wait=20"),
            200,
            state="queued",
            duplicate=False,
            message="Attempt 1 of 5 failed; the next is due in 4 s.",
        )
        assert jobs.triggers(job) == 1

    def test_a_recorded_failure_is_a_delivered_trigger(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """200 with state failed: the dead letter is written before the answer."""
        job = jobs.enqueue("FAIL")
        answer(start_worker(handlers).trigger(job, prefer="wait=20"), 200, state="failed", duplicate=False)
        assert [letter["last_error"] for letter in jobs.letters(job)] == ["the order does not exist"]

    def test_a_lease_lost_while_waiting_is_not_called_done(
        self, start_worker: Any, handlers: Handlers, jobs: Any, gate: Any
    ) -> None:
        """When another worker has the job by then, the answer is its state."""
        job = jobs.enqueue("WAIT")
        worker = start_worker(handlers)
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(worker.trigger, job, prefer="wait=20")
            gate.await_entry()
            jobs.take_over(job)
            gate.open()
            answer(response.result(20), 202, state="running", duplicate=True)
        assert jobs.row(job)["attempt"] == 2


class TestCredentials:
    """The shared secret."""

    def test_without_a_secret_everybody_is_let_in(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """And readiness says so."""
        worker = start_worker(handlers)
        answer(worker.trigger(jobs.enqueue("NOOP"), x_worker_trigger="anything"), 202)
        assert worker.ready()["authentication"] == "none"

    def test_both_secrets_are_valid_during_a_rotation(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """The new one and the previous one, and no other."""
        worker = start_worker(handlers, secret=Secret("new"), previous_secret=Secret("old"))
        assert worker.ready()["authentication"] == "secret"
        for secret in ("new", "old"):
            answer(worker.trigger(jobs.enqueue("NOOP"), x_worker_trigger=secret), 202, duplicate=False)
        job = jobs.enqueue("NOOP")
        for headers in ({}, {"x_worker_trigger": "older"}, {"x_worker_trigger": ""}):
            document = problem(worker.trigger(job, **headers), 403, "forbidden")
            assert "new" not in document["detail"]
        assert jobs.state(job) == "queued"

    def test_a_secret_may_hold_any_character(self, start_worker: Any, handlers: Handlers, jobs: Any) -> None:
        """It is compared as UTF-8 bytes."""
        worker = start_worker(handlers, secret=Secret("schlüssel 🔑 = ;,"))
        body = {"jobId": str(jobs.enqueue("NOOP"))}
        for given, status in (("schlüssel 🔑 = ;,", 202), ("schlussel 🔑 = ;,", 403)):
            headers = [(b"x-worker-trigger", given.encode())]
            assert worker.client.post("/process-job", json=body, headers=headers).status_code == status


class TestRequests:
    """Requests that are no triggers."""

    def test_another_media_type(self, start_worker: Any, handlers: Handlers) -> None:
        """415, also for none at all; parameters and case do not matter."""
        client = start_worker(handlers).client
        for headers in ({"content-type": "text/plain"}, {"content-type": "application/jsonx"}, {}):
            problem(client.post("/process-job", content=b"{}", headers=headers), 415, "unsupported-media-type")
        headers = {"content-type": "Application/JSON ; charset=utf-8"}
        problem(client.post("/process-job", content=b"{}", headers=headers), 400, "malformed-request")

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"jobId": "test-123"}', b'"\xff"', b"[" * 60_000])
    def test_a_body_that_is_no_trigger(self, start_worker: Any, handlers: Handlers, body: bytes) -> None:
        """400, and says what is wrong."""
        client = start_worker(handlers).client
        response = client.post("/process-job", content=body, headers={"content-type": "application/json"})
        assert problem(response, 400, "malformed-request")["detail"]

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_is_too_large(self, start_worker: Any, handlers: Handlers, chunked: bool) -> None:
        """413 past 65,536 bytes, with and without a Content-Length."""
        client = start_worker(handlers).client
        headers = {"content-type": "application/json"}
        for size, status, slug in ((65_536, 400, "malformed-request"), (65_537, 413, "payload-too-large")):
            body = b" " * size
            content: Any = iter([body[:40_000], body[40_000:]]) if chunked else body
            problem(client.post("/process-job", content=content, headers=headers), status, slug)

    @pytest.mark.parametrize("path", ["/process-job", "/health", "/health/ready"])
    def test_another_method(self, start_worker: Any, handlers: Handlers, path: str) -> None:
        """405 with Allow."""
        client = start_worker(handlers).client
        response = client.request("DELETE", path)
        problem(response, 405, "method-not-allowed")
        allowed = [set(each.headers["allow"].split(", ")) for each in (response, client.options(path))]
        assert allowed[0] == allowed[1]

    def test_the_order_of_the_checks(self, start_worker: Any, handlers: Handlers) -> None:
        """Credentials, then the media type, then the body."""
        client = start_worker(handlers, secret=Secret("new")).client
        headers = {"content-type": "text/plain"}
        problem(client.post("/process-job", content=b"{", headers=headers), 403, "forbidden")
        headers["x-worker-trigger"] = "new"
        problem(client.post("/process-job", content=b"{", headers=headers), 415, "unsupported-media-type")
        headers["content-type"] = "application/json"
        problem(client.post("/process-job", content=b"{", headers=headers), 400, "malformed-request")
