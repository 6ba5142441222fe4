"""What answers do to the trigger and to the job over time; what each does by itself: tests/contract/relay."""

import asyncio
import time

import pytest

from databases import Database
from outboxkit_contracts import Problem, ProblemType
from relaying import Tables, eventually, running, settings
from sink import Reply, Request, Sink, accepted, problem


async def test_a_job_that_runs_gets_no_dead_letter(database: Database, db: Tables, sink: Sink) -> None:
    """A refusal for a job that a worker is running removes the trigger alone: a letter would be a lie."""
    sink.answering = lambda _: problem(ProblemType.MALFORMED_REQUEST)
    job = await db.enqueue()
    await db.rows(
        "update outboxkit.jobs set state = 'running', lease_until = clock_timestamp() + interval '1 hour',"
        " leased_by = gen_random_uuid(), attempt = 1, max_attempts = 5"
    )
    async with running(settings(database, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
    assert await db.state(job) == "running"
    assert await db.letters() == []


async def test_an_unknown_kind_is_tried_again_and_then_buried(database: Database, db: Tables, sink: Sink) -> None:
    """422 unknown-kind counts: as many tries as are allowed, then a dead letter that says so."""
    sink.answering = lambda _: problem(ProblemType.UNKNOWN_KIND)
    job = await db.enqueue()
    async with running(settings(database, sink.url, RELAY_MAX_ATTEMPTS="3")):
        await eventually(db.empty, what="the trigger to be settled")
    assert len(sink.requests) == 3
    assert await db.rows("select job_id, reason, attempts from outboxkit.dead_letters") == [(job, "unknown-kind", 3)]


async def test_an_unknown_kind_survives_a_deploy(database: Database, db: Tables, sink: Sink) -> None:
    """A worker that learns the kind in time gets the job."""
    sink.answering = lambda _: (
        problem(ProblemType.UNKNOWN_KIND) if len(sink.requests) < 3 else accepted(sink.requests[-1])
    )
    await db.enqueue()
    async with running(settings(database, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
    assert await db.letters() == []
    assert len(sink.requests) == 3


async def test_an_unrecorded_outcome_is_tried_again_and_counts(database: Database, db: Tables, sink: Sink) -> None:
    """A 500 of ours counts as a failure of the trigger."""
    sink.answering = lambda _: problem(ProblemType.INTERNAL_ERROR)
    await db.enqueue()
    async with running(settings(database, sink.url, RELAY_MAX_ATTEMPTS="2")):
        await eventually(db.empty, what="the trigger to be settled")
    assert [reason for _, reason in await db.letters()] == ["internal-error"]


@pytest.mark.parametrize("kind", [ProblemType.NOT_DUE, ProblemType.WORKER_FULL, ProblemType.DRAINING])
async def test_retry_after_is_kept_and_nothing_is_counted(
    database: Database, db: Tables, sink: Sink, kind: ProblemType
) -> None:
    """409, 429 and 503 with Retry-After: the next try comes no sooner, and even with one attempt allowed none is counted."""
    times: list[float] = []

    def answer(request: Request) -> Reply:
        times.append(time.monotonic())
        return problem(kind, retry_after=1) if len(times) == 1 else accepted(request)

    sink.answering = answer
    await db.enqueue()
    async with running(settings(database, sink.url, RELAY_MAX_ATTEMPTS="1")):
        await eventually(lambda: len(times) == 1, what="the first try")
        await eventually(lambda: db.value("select last_error from outboxkit.outbox"), what="the first settlement")
        assert await db.value("select attempts from outboxkit.outbox") == 0
        assert await db.value("select due_at > clock_timestamp() + interval '0.5 s' from outboxkit.outbox")
        await eventually(db.empty, what="the trigger to be settled")
    assert times[1] - times[0] >= 1
    assert await db.letters() == []


async def test_a_full_worker_gets_half_as_much_at_once(database: Database, db: Tables, sink: Sink) -> None:
    """After a round of 429s the relay has half as many deliveries in flight, and everything arrives in the end."""
    held, more = asyncio.Event(), asyncio.Event()
    waiting = 0

    async def answer(request: Request) -> Reply:
        nonlocal waiting
        if len(sink.requests) <= 32:
            return problem(ProblemType.WORKER_FULL)
        waiting += 1
        if waiting > 16:
            more.set()
        await held.wait()
        return accepted(request)

    sink.answering = answer
    await db.enqueue_many(64)
    async with running(settings(database, sink.url, RELAY_CONCURRENCY="32")):
        await eventually(lambda: waiting == 16, what="half as many to be in flight")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(more.wait(), 0.3)
        held.set()
        await eventually(db.empty, what="every trigger to be settled")
    assert await db.letters() == []


ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b"a" * 500_000


async def test_a_long_answer_is_not_read_to_its_end(database: Database, db: Tables, sink: Sink) -> None:
    """Of an endless body only the first part is waited for: the fault comes long before the deadline."""
    sink.answering = lambda _: Reply(raw=ENDLESS, then="silence")
    await db.enqueue()
    async with running(settings(database, sink.url, RELAY_DELIVERY_TIMEOUT_SECONDS="60")):
        error = await eventually(lambda: db.value("select last_error from outboxkit.outbox"), what="a fault", within=10)
    assert "not a worker's answer" in error


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9", "no connection to 127.0.0.1:9"),
        ("http://no-such-host.invalid", "could not be resolved"),
        ("https://127.0.0.1:{port}", "no TLS connection"),
    ],
)
async def test_no_connection_is_said_in_words(database: Database, db: Tables, url: str, words: str) -> None:
    """Nobody there, no such name, no TLS: last_error says which."""
    job = await db.enqueue()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.invalid ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as mail:
        port = mail.sockets[0].getsockname()[1]
        async with running(settings(database, url.format(port=port))):
            error = await eventually(lambda: db.value("select last_error from outboxkit.outbox"), what="a fault")
    assert words in error
    assert await db.state(job) == "queued"


async def test_a_letter_holds_the_workers_words_made_safe(database: Database, db: Tables, sink: Sink) -> None:
    """NUL and 100,000 characters in a problem's detail are cut and cleaned, and the row is buried all the same."""
    detail = "bad\0thing " + "x" * 40_000
    sink.answering = lambda _: Reply(
        400, Problem.of(ProblemType.MALFORMED_REQUEST, detail).encode(), "application/problem+json"
    )
    await db.enqueue()
    async with running(settings(database, sink.url)):
        await eventually(db.empty, what="the trigger to be settled")
    error = await db.value("select last_error from outboxkit.dead_letters")
    assert "bad thing" in error
    assert len(error) <= 2000
