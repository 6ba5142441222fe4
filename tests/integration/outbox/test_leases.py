"""The Python side of leases: what the statements' answers become."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg

from integration.outbox.actor import handlers
from integration.outbox.stage import Stage
from outboxkit import leases
from outboxkit.batching import MicroBatcher

MINUTE = timedelta(minutes=1)


async def test_claim_is_read_back(stage: Stage) -> None:
    """A lease has all that the handler needs, and the payload as JSON text."""
    job = await stage.enqueue(queue="q", payload='{"n": 1}', traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-00")
    worker = await stage.actor()
    (lease,) = await worker.claim(job)
    row = await stage.job(job)
    assert lease == leases.Lease(job, "q", "K", '{"n": 1}', 1, 3, row["run_at"], row["created_at"], row["traceparent"])


async def test_claim_takes_ids_in_any_order_and_number(stage: Stage) -> None:
    """The same id twice, ids of nobody, an empty list: each job is claimed once."""
    jobs = [await stage.enqueue() for _ in range(3)]
    worker = await stage.actor()
    claimed = await worker.claim(*reversed(jobs), *jobs, uuid4())
    assert sorted(lease.id for lease in claimed) == sorted(jobs)
    assert await worker.claim() == []


async def test_states_after_a_claim_that_got_nothing(stage: Stage) -> None:
    """What became of the jobs that a claim did not get is read afresh; one that does not exist is missing."""
    worker = await stage.actor()
    running, _ = await stage.running(worker)
    later = await stage.enqueue(run_at=await stage.now() + 2 * MINUTE)
    states = await leases.read_states(worker.connection, [running, later, uuid4()])
    assert states.keys() == {running, later}
    assert (states[running].state, states[running].attempt, states[running].leased_by) == ("running", 1, worker.worker)
    assert states[running].due_in == 0
    assert 60 < states[later].due_in <= 120


async def test_polled_claim_waits_for_overdue(stage: Stage) -> None:
    """A poller that is a safety net takes only what has been due for a while, the longest due first, up to its slots."""
    now = await stage.now()
    fresh, old, older = [await stage.enqueue(run_at=now - late * MINUTE) for late in (0, 2, 3)]
    worker = await stage.actor()
    options: dict[str, Any] = {"handlers": handlers, "worker": worker.worker, "lease": MINUTE}
    first = await leases.claim_due(worker.connection, slots=1, overdue=MINUTE, **options)
    rest = await leases.claim_due(worker.connection, slots=9, overdue=MINUTE, **options)
    assert [[lease.id for lease in claimed] for claimed in (first, rest)] == [[older], [old]]
    assert await stage.state(fresh) == "queued"


async def test_polled_claim_leaves_what_is_excluded(stage: Stage) -> None:
    """A job that an old handler of this process is still at work on is left for others."""
    job, other = [await stage.enqueue() for _ in range(2)]
    worker = await stage.actor()
    claimed = await leases.claim_due(
        worker.connection, slots=9, handlers=handlers, worker=worker.worker, lease=MINUTE, excluded={job}
    )
    assert [lease.id for lease in claimed] == [other]


async def test_heartbeat_tells_what_to_stop(stage: Stage) -> None:
    """A heartbeat renews, stores progress, and says which jobs are to be cancelled and which are lost."""
    worker = await stage.actor()
    held = [await stage.running(worker) for _ in range(3)]
    (kept, _), (asked, _), (swept, _) = held
    await worker.cancel(asked)
    await stage.expire(swept)
    await worker.sweep_leases()
    attempts = [(job, lease.attempt, '{"done": 1}' if job == kept else None) for job, lease in held]
    before = await stage.now()
    with stage.database.sync() as thread:
        outcome = leases.heartbeat(thread, attempts, worker=worker.worker, lease=2 * MINUTE)
    assert outcome == ({asked}, {swept})
    row = await stage.job(kept)
    assert row["lease_until"] >= before + 2 * MINUTE
    assert row["progress"] == {"done": 1}


async def test_errors_are_clipped(stage: Stage) -> None:
    """An error with NUL, a lone surrogate or a megabyte of text is stored, cut short."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    text = "a\x00b\ud800" + "x" * 1_000_000
    ended = await leases.end(
        worker.connection, lease, worker=worker.worker, reason=text, error=text, delay=MINUTE, final=True
    )
    assert ended is not None
    letter = await stage.letter(job)
    assert letter["last_error"].startswith("ab?xxx")
    assert len(letter["last_error"]) == 2000
    assert len(letter["reason"]) == 200


async def test_poisoned_completion_does_not_kill_its_neighbours(stage: Stage) -> None:
    """A result that Postgres refuses fails alone: in the same batch the others complete."""
    worker = await stage.actor()
    good, bad, nul, fine = [await stage.running(worker) for _ in range(4)]
    results = {good[0]: '{"a": 1}', bad[0]: "{not json", nul[0]: '"\\u0000"', fine[0]: None}

    async def flush(batch: "list[tuple[UUID, int, str | None]]") -> list[bool]:
        done = await leases.complete(worker.connection, batch, worker=worker.worker)
        return [job in done for job, _, _ in batch]

    batcher = MicroBatcher(flush, separable=lambda error: isinstance(error, psycopg.DataError))
    attempts = [(job, lease.attempt, results[job]) for job, lease in (good, bad, nul, fine)]
    outcomes = await asyncio.gather(*map(batcher.submit, attempts), return_exceptions=True)
    assert [outcome if outcome is True else type(outcome) for outcome in outcomes] == [
        True,
        psycopg.errors.InvalidTextRepresentation,
        psycopg.errors.UntranslatableCharacter,
        True,
    ]
    assert [await stage.state(job) for job, _ in (good, bad, nul, fine)] == [
        "succeeded",
        "running",
        "running",
        "succeeded",
    ]
