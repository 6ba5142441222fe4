"""job.session: what a handler writes through it takes effect together with the completion, exactly once."""

# ruff: noqa: ARG001, ARG002 (handlers are given a payload and a job, and fixtures act, whether they are used or not)

from __future__ import annotations

import logging
from typing import Any

import psycopg
import psycopg._connection_base
import psycopg.client_cursor
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from databases import Database
from outboxkit import Handlers, Job, Retry
from outboxkit_worker import session as sessions
from waiting import until

WRITE = text("insert into ledger (job, attempt) values (:job, :attempt)")


@pytest.fixture
def ledger(database: Database, jobs: Any) -> Any:
    """A table of the application's: one row for each attempt that took effect."""
    jobs.connection.execute("create table ledger (job uuid, attempt int, note text, unique (note))")

    def read() -> list[int]:
        rows = jobs.connection.execute("select attempt from ledger order by attempt").fetchall()
        return [row["attempt"] for row in rows]

    return read


async def write(job: Job) -> None:
    """Write to the ledger in the job's transaction."""
    await job.session.execute(WRITE, {"job": job.id, "attempt": job.attempt})


class TestCommit:
    """The attempt succeeds."""

    def test_it_commits_with_the_completion(self, start_worker: Any, jobs: Any, ledger: Any, gate: Any) -> None:
        """Nothing is seen before the job has succeeded; then everything, children too."""
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> str:
            await write(job)
            await job.enqueue("CHILD")
            await gate.passed()
            return "paid"

        job = jobs.enqueue("PAY")
        start_worker(handlers).trigger(job)
        gate.await_entry()
        assert ledger() == []
        gate.open()
        assert jobs.await_state(job, "succeeded")["result"] == "paid"
        assert ledger() == [1]
        assert jobs.one("select state from outboxkit.jobs where kind = 'CHILD'")["state"] == "queued"

    def test_failed_attempts_leave_nothing(self, start_worker: Any, jobs: Any, ledger: Any) -> None:
        """Of three attempts only the one that succeeds takes effect."""
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)
            if job.attempt < 3:
                raise Retry(after=0)

        job = jobs.enqueue("PAY")
        start_worker(handlers, mode="db", poll_interval=0.02)
        jobs.await_state(job, "succeeded")
        assert ledger() == [3]

    def test_a_commit_listener_still_has_its_say(self, start_worker: Any, jobs: Any, ledger: Any) -> None:
        """What SQLAlchemy's before_commit event writes is in the same transaction."""
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            session = job.session

            @event.listens_for(session.sync_session, "before_commit")
            def late(sync_session: Any) -> None:
                sync_session.execute(WRITE, {"job": job.id, "attempt": 10})

            await session.execute(text("select 1"))

        job = jobs.enqueue("PAY")
        start_worker(handlers, mode="db")
        jobs.await_state(job, "succeeded")
        assert ledger() == [10]

    def test_a_session_that_was_rolled_back_can_go_on(self, start_worker: Any, jobs: Any, ledger: Any) -> None:
        """rollback() and begin_nested() are the handler's; what is done after them counts."""
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)
            await job.session.rollback()
            try:
                async with job.session.begin_nested():
                    for _ in range(2):
                        await job.session.execute(text("insert into ledger (note) values ('same')"))
            except IntegrityError:
                await write(job)

        job = jobs.enqueue("PAY")
        start_worker(handlers, mode="db")
        jobs.await_state(job, "succeeded")
        assert ledger() == [1]

    def test_a_session_that_was_never_used_costs_nothing(self, start_worker: Any, jobs: Any) -> None:
        """Looking at job.session opens no connection, and the job completes as any other."""
        handlers = Handlers()

        @handlers.register("LOOK")
        async def look(payload: dict[str, Any], job: Job) -> str:
            return type(job.session).__name__

        job = jobs.enqueue("LOOK")
        start_worker(handlers, mode="db")
        assert jobs.await_state(job, "succeeded")["result"] == "JobSession"
        name = "outboxkit-worker-sessions"
        assert jobs.one("select count(*) as n from pg_stat_activity where application_name = %s", [name])["n"] == 0

    @pytest.mark.parametrize("what", ["commit", "begin", "close", "async with"])
    def test_it_refuses_to_end_early(self, start_worker: Any, jobs: Any, ledger: Any, what: str) -> None:
        """commit(), begin(), close() and `async with` raise, and say what to do."""
        handlers = Handlers()

        async def end(session: AsyncSession) -> None:
            if what == "async with":
                async with session:
                    return
            if what == "begin":
                async with session.begin():
                    return
            await getattr(session, what)()

        @handlers.register("PAY", max_attempts=1)
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)
            await end(job.session)

        job = jobs.enqueue("PAY")
        start_worker(handlers, mode="db")
        error = jobs.await_state(job, "failed")["errors"][0]["error"]
        assert "job.session refuses" in error
        assert "a session of your own" in error
        assert ledger() == []

    def test_one_open_for_long_is_warned_about(
        self,
        start_worker: Any,
        jobs: Any,
        gate: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The warning names the job."""
        monkeypatch.setattr(sessions, "LONG", 0.05)
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await job.session.execute(text("select 1"))
            await gate.passed()

        job = jobs.enqueue("PAY")
        with caplog.at_level(logging.WARNING):
            start_worker(handlers, mode="db")
            until(lambda: "job.session has been open" in caplog.text, what="the warning")
        assert [r.job_id for r in caplog.records if "job.session" in r.message] == [job]  # type: ignore[attr-defined]  # extra


class TestFence:
    """The lease was lost, or nobody knows."""

    def test_a_stale_completion_is_refused(self, start_worker: Any, jobs: Any, ledger: Any, gate: Any) -> None:
        """Another worker has taken the job over: what the old attempt wrote is rolled back, and the job is left alone."""
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> str:
            await write(job)
            await gate.passed()
            return "stale"

        job = jobs.enqueue("PAY")
        worker = start_worker(handlers)
        worker.trigger(job)
        gate.await_entry()
        jobs.take_over(job)
        before = jobs.row(job)
        gate.open()
        until(lambda: not self.open_sessions(jobs), what="the session to end")
        assert ledger() == []
        assert jobs.row(job) == before

    def test_each_job_takes_effect_once_though_every_attempt_is_overtaken(
        self, start_worker: Any, jobs: Any, ledger: Any, gate: Any
    ) -> None:
        """Two attempts at a job finish at the same time: one of them is written, and it is the later."""
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)
            await gate.passed()

        job = jobs.enqueue("PAY")
        first, second = start_worker(handlers), start_worker(handlers)
        first.trigger(job)
        gate.await_entry()
        jobs.requeue(job)
        second.trigger(job)
        gate.await_entry()
        gate.open()
        jobs.await_state(job, "succeeded")
        until(lambda: not self.open_sessions(jobs), what="the sessions to end")
        assert ledger() == [2]

    def test_a_conflict_at_the_commit_is_retried_at_once(self, start_worker: Any, jobs: Any, ledger: Any) -> None:
        """40001 at the commit ends the attempt as a retry without backoff."""
        jobs.connection.execute(
            """
            create function refuse() returns trigger language plpgsql as $$
            begin
                if new.attempt = 1 then raise exception 'conflict' using errcode = '40001'; end if;
                return null;
            end $$;
            create constraint trigger refuse after insert on ledger deferrable initially deferred
            for each row execute function refuse();
            """
        )
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)

        job = jobs.enqueue("PAY")
        start_worker(handlers, mode="db", poll_interval=0.02, backoff=3600)
        row = jobs.await_state(job, "succeeded")
        assert (ledger(), [e["reason"] for e in row["errors"]]) == ([2], ["conflict"])

    def test_a_constraint_checked_at_the_commit_fails_the_attempt(
        self, start_worker: Any, jobs: Any, ledger: Any
    ) -> None:
        """Completion and writes are one transaction: the job has not succeeded either."""
        jobs.connection.execute("create table other (id int primary key)")
        jobs.connection.execute(
            "alter table ledger add foreign key (attempt) references other deferrable initially deferred"
        )
        handlers = Handlers()

        @handlers.register("PAY", max_attempts=1)
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)

        job = jobs.enqueue("PAY")
        start_worker(handlers, mode="db")
        assert "ForeignKeyViolation" in jobs.await_state(job, "failed")["errors"][0]["error"]
        assert ledger() == []

    def test_a_connection_that_breaks_under_the_handler(
        self, start_worker: Any, jobs: Any, ledger: Any, gate: Any
    ) -> None:
        """The backend is killed before the commit: the attempt is rolled back and retried, and takes effect once."""
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)
            await gate.passed()

        job = jobs.enqueue("PAY")
        start_worker(handlers, mode="db", poll_interval=0.02)
        gate.await_entry()
        assert self.kill_sessions(jobs) == 1
        gate.open()
        row = jobs.await_state(job, "succeeded")
        assert ledger() == [2]
        assert [e["reason"] for e in row["errors"]] == ["connection-lost"]

    def test_a_commit_whose_answer_is_lost_counts(
        self, start_worker: Any, jobs: Any, ledger: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection breaks after Postgres has committed: the job has succeeded, and is not run again."""
        original = sessions._complete_and_commit
        killed = []

        def commit_then_break(connection: Any) -> None:
            asked = sessions._COMPLETION in connection.info
            original(connection)
            if asked:
                killed.append(self.kill_sessions(jobs))
                raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(sessions, "_complete_and_commit", commit_then_break)
        handlers = Handlers()

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)

        job = jobs.enqueue("PAY")
        response = start_worker(handlers).trigger(job, prefer="wait=20")
        assert (killed, response.status_code, response.json()["state"]) == ([1], 200, "succeeded")
        row = jobs.row(job)
        assert (row["attempt"], row["errors"], ledger()) == (1, [], [1])

    def kill_sessions(self, jobs: Any) -> int:
        """End the backends of the handlers' sessions; returns how many."""
        killed = jobs.connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where application_name = 'outboxkit-worker-sessions'"
        ).fetchall()
        return len(killed)

    def open_sessions(self, jobs: Any) -> int:
        """How many sessions of handlers are in a transaction."""
        row = jobs.one(
            "select count(*) as n from pg_stat_activity where application_name = 'outboxkit-worker-sessions'"
            " and state <> 'idle'"
        )
        return int(row["n"])


class TestStatements:
    """What a job costs, in messages to Postgres."""

    def test_messages_of_a_job(
        self, start_worker: Any, jobs: Any, ledger: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A job is a claim and a completion; with a session, its ping and BEGIN besides, and the handler's own statements.

        Completion and COMMIT are one message.
        """
        sent: list[str] = []
        self.record(monkeypatch, sent)
        handlers = Handlers()

        @handlers.register("NOOP")
        async def noop(payload: dict[str, Any], job: Job) -> None:
            pass

        @handlers.register("PAY")
        async def pay(payload: dict[str, Any], job: Job) -> None:
            await write(job)

        worker = start_worker(handlers)
        for kind in ("PAY", "NOOP"):  # connections are made, and statements prepared
            for _ in range(7):
                worker.trigger(jobs.enqueue(kind), prefer="wait=20")
        expected = {
            "NOOP": ["with wanted", "with mine a"],
            "PAY": ["with wanted", ";", "BEGIN", "insert into", "select outb"],
        }
        for kind, messages in expected.items():
            job = jobs.enqueue(kind)
            sent.clear()
            worker.trigger(job, prefer="wait=20")
            assert [message[:11] for message in sent if "processes" not in message] == messages

    def record(self, monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
        """Keep the text of everything psycopg sends on asynchronous connections, which are the worker's."""
        connection = psycopg._connection_base.BaseConnection
        cursor = psycopg._cursor_base.BaseCursor
        client = psycopg.client_cursor.ClientCursorMixin
        command = connection._exec_command

        def exec_command(self: Any, statement: bytes, *args: Any, **kwargs: Any) -> Any:
            if isinstance(self, psycopg.AsyncConnection):
                sent.append(statement.decode())
            return (yield from command(self, statement, *args, **kwargs))

        monkeypatch.setattr(connection, "_exec_command", exec_command)
        for owner, name in (
            (cursor, "_execute_send"),
            (cursor, "_send_query_prepared"),
            (client, "_execute_send"),
        ):
            self.wrap(monkeypatch, owner, name, sent)

    def wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, sent: list[str]) -> None:
        """Keep what one of psycopg's sending methods sends."""
        original = getattr(owner, name)

        def send(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(self._conn, psycopg.AsyncConnection):
                [prepared] = [a for a in (query, *args) if hasattr(a, "query")]
                sent.append(prepared.query.decode().strip())
            return original(self, query, *args, **kwargs)

        monkeypatch.setattr(owner, name, send)
