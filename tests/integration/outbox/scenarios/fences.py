"""Leases: what an attempt writes once it is no longer the one that holds the job (G3)."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg

from integration.outbox.actor import Actor
from integration.outbox.scenarios.claims import LOCK_JOB
from integration.outbox.stage import Stage
from outboxkit import queries
from outboxkit.leases import LEASE_LOST, Lease
from outboxkit_worker import session

Write = Callable[[Actor, Lease], Awaitable[Any]]

# Every statement that carries the fence; each says that nothing was written by something false.
WRITES: list[Write] = [Actor.complete, Actor.end, Actor.give_back, Actor.heartbeat, Actor.complete_inside]


async def _all_refused(stage: Stage, actor: Actor, lease: Lease) -> None:
    before = await stage.job(lease.id)
    for write in WRITES:
        assert not await write(actor, lease), f"{write.__name__} was accepted"
        assert await stage.job(lease.id) == before, f"{write.__name__} wrote"


async def earlier_attempt_of_the_same_worker_is_refused(stage: Stage) -> None:
    """A worker that lost a job and claimed it again cannot complete, end, renew or give back the attempt before."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    await stage.expire(job)
    await worker.sweep_leases()
    (again,) = await worker.claim(job)
    await _all_refused(stage, worker, lease)
    assert await worker.complete(again) == {job}


async def another_worker_is_refused(stage: Stage) -> None:
    """The attempt's number alone is no key: it is the holder's."""
    worker, other = await stage.actors(2)
    job, lease = await stage.running(worker)
    await _all_refused(stage, other, lease)
    assert await worker.complete(lease) == {job}


async def swept_attempt_is_refused(stage: Stage) -> None:
    """Once a sweep has queued the job again, its last holder cannot write, though nobody has claimed it since."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    await stage.expire(job)
    await worker.sweep_leases()
    await _all_refused(stage, worker, lease)
    assert await stage.state(job) == "queued"


async def completion_that_waited_for_a_sweep_is_refused(stage: Stage) -> None:
    """A completion that meets a sweep of the same job looks again after its wait and writes nothing."""
    await _waits_for_a_sweep(stage, Actor.complete)


async def completion_inside_that_waited_for_a_sweep_is_refused(stage: Stage) -> None:
    """So does a completion within a handler's own transaction."""
    await _waits_for_a_sweep(stage, Actor.complete_inside)


async def retry_that_waited_for_a_sweep_is_refused(stage: Stage) -> None:
    """So does a retry: one trigger comes of it, the sweep's."""
    await _waits_for_a_sweep(stage, Actor.end)


async def give_back_that_waited_for_a_sweep_is_refused(stage: Stage) -> None:
    """So does a give-back."""
    await _waits_for_a_sweep(stage, Actor.give_back)


async def _waits_for_a_sweep(stage: Stage, write: Write) -> None:
    worker, sweeper = await stage.actors(2)
    job, lease = await stage.running(worker)
    await stage.expire(job)
    await sweeper.begin()
    assert await sweeper.sweep_leases() == ["queued"]
    step = stage.start(worker, _awaited(write(worker, lease)))
    await stage.blocked(step)
    await sweeper.commit()
    assert not await stage.outcome(step)
    row = await stage.job(job)
    assert (row["state"], row["max_attempts"], len(row["errors"])) == ("queued", 3, 1)
    assert len(await stage.triggers(job)) == 1


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def handlers_transaction_goes_with_a_lost_lease(stage: Stage) -> None:
    """What a handler wrote is rolled back when its lease was lost, though COMMIT is sent without looking first."""
    worker = await stage.actor()
    await worker.run("create table effects (job_id uuid)")
    job, lease = await stage.running(worker)
    await stage.expire(job)
    await stage.observer.sweep_leases()
    await worker.begin()
    await worker.run("insert into effects values (%s)", job)
    assert not await _completed_in_one_pipeline(worker, lease)
    assert await stage.observer.run("select * from effects") == []
    assert await stage.state(job) == "queued"


async def handlers_transaction_commits_with_its_lease(stage: Stage) -> None:
    """And it is committed together with the completion when the lease was held."""
    worker = await stage.actor()
    await worker.run("create table effects (job_id uuid)")
    job, lease = await stage.running(worker)
    await worker.begin()
    await worker.run("insert into effects values (%s)", job)
    assert await _completed_in_one_pipeline(worker, lease)
    assert len(await stage.observer.run("select * from effects")) == 1
    assert await stage.state(job) == "succeeded"


async def _completed_in_one_pipeline(worker: Actor, lease: Lease) -> bool:
    values = {"id": lease.id, "attempt": lease.attempt, "worker": worker.worker, "result": None}
    try:
        async with worker.connection.pipeline():
            await worker.connection.execute(queries.load("complete_attempt"), values)
            await worker.connection.execute("commit")
    except psycopg.DatabaseError as error:
        assert error.sqlstate == LEASE_LOST  # noqa: PT017 (what is raised is not the point)
        await worker.rollback()
        return False
    return True


async def frozen_process_that_has_sent_its_completion_holds_nothing(stage: Stage) -> None:
    """A worker that freezes after its last message, and never reads the answer, has completed its job and let go of it."""
    worker, person = await stage.actors(2)
    await worker.run("create table effects (job_id uuid)")
    job, lease = await stage.running(worker)
    await worker.begin()
    await worker.run("insert into effects values (%s)", job)
    values = {"id": job, "attempt": lease.attempt, "worker": worker.worker, "result": None}
    message = stage.rewritten("completion", session._STATEMENT.decode())
    cursor = psycopg.AsyncClientCursor(worker.connection)
    worker.connection.pgconn.send_query(cursor.mogrify(message, values).encode())
    assert worker.connection.pgconn.flush() == 0
    sent = "query like '%%complete_attempt%%'"
    worked_off = f"select pid from pg_stat_activity where pid = %s and state <> 'active' and {sent}"  # noqa: S608 (ours)
    await stage.eventually(lambda: stage.observer.run(worked_off, worker.pid))
    assert await stage.at_once(person, person.cancel(job)) == ("succeeded", False)
    assert len(await stage.observer.run("select * from effects")) == 1


async def heartbeat_does_not_wait_for_a_completion(stage: Stage) -> None:
    """A batch of heartbeats passes over rows that a batch of completions holds, and renews the rest."""
    worker, completer, other = await stage.actors(3)
    completer.worker = worker.worker
    low, middle, high = [lease for _, lease in [await stage.running(worker) for _ in range(3)]]
    await other.begin()
    await other.run(LOCK_JOB, middle.id)
    completion = stage.start(completer, completer.complete(low, middle, high))
    await stage.blocked(completion)
    assert await stage.at_once(worker, worker.heartbeat(high, middle, low)) == {high.id}
    await other.rollback()
    assert await stage.outcome(completion) == {low.id, middle.id, high.id}


async def heartbeat_never_revives_a_swept_lease(stage: Stage) -> None:
    """A heartbeat that meets a sweep of its job passes on; the job is the sweep's."""
    worker, sweeper = await stage.actors(2)
    job, lease = await stage.running(worker)
    await stage.expire(job)
    await sweeper.begin()
    await sweeper.sweep_leases()
    assert await stage.at_once(worker, worker.heartbeat(lease)) == set()
    await sweeper.commit()
    assert await stage.state(job) == "queued"


async def completions_do_not_deadlock(stage: Stage) -> None:
    """Two batches of completions with common jobs lock them in ascending id, whatever order they were gathered in."""
    await _cross(stage, Actor.complete, Actor.complete)


async def give_backs_do_not_deadlock(stage: Stage) -> None:
    """Nor do two batches of give-backs."""
    await _cross(stage, Actor.give_back, Actor.give_back)


async def _cross(stage: Stage, one: Callable[..., Any], two: Callable[..., Any]) -> None:
    first, second, other = await stage.actors(3)
    second.worker = first.worker
    ids = await stage.three()
    by_id: dict[UUID, Lease] = {lease.id: lease for lease in await first.claim(*ids)}
    held = [by_id[job] for job in ids]
    await stage.crossing(first, second)
    await other.begin()
    await other.run(LOCK_JOB, ids[1])
    steps = [stage.start(first, one(first, *held))]
    await stage.blocked(steps[0])
    steps.append(stage.start(second, two(second, *reversed(held))))
    await stage.blocked(steps[1])
    await other.rollback()
    assert sorted([len(await stage.outcome(step)) for step in steps]) == [0, 3]


async def give_back_never_lowers_the_attempt(stage: Stage) -> None:
    """An attempt given back costs the job nothing, and yet the next holder's token is a new one."""
    worker, other = await stage.actors(2)
    job, lease = await stage.running(worker)
    assert await worker.give_back(lease) == {job}
    row = await stage.job(job)
    assert (row["state"], row["attempt"], row["max_attempts"]) == ("queued", 1, 4)
    assert len(await stage.triggers(job)) == 1
    (again,) = await other.claim(job)
    assert again.attempt > lease.attempt


async def lost_leases_are_told_from_locked_rows(stage: Stage) -> None:
    """What a heartbeat passed over is lost only if it is no longer the worker's own: a lock alone is no loss."""
    worker, other = await stage.actors(2)
    (kept, first), (swept, second) = [await stage.running(worker) for _ in range(2)]
    await stage.expire(swept)
    await worker.sweep_leases()
    (taken, third) = await stage.running(worker)
    await other.run("update outboxkit.jobs set leased_by = %s where id = %s", other.worker, taken)
    (_, fourth) = await stage.running(worker)
    (later, fifth) = await stage.running(worker)
    await other.run("update outboxkit.jobs set attempt = 2 where id = %s", later)
    await other.run("delete from outboxkit.jobs where id = %s", fourth.id)
    await other.begin()
    await other.run(LOCK_JOB, kept)
    held = (first, second, third, fourth, fifth)
    tokens = {"ids": [lease.id for lease in held], "attempts": [lease.attempt for lease in held]}
    lost = await worker.query("lost_leases", **tokens, worker=worker.worker)
    assert {row["id"] for row in lost} == {swept, taken, fourth.id, later}


SCENARIOS = [
    earlier_attempt_of_the_same_worker_is_refused,
    another_worker_is_refused,
    swept_attempt_is_refused,
    completion_that_waited_for_a_sweep_is_refused,
    completion_inside_that_waited_for_a_sweep_is_refused,
    retry_that_waited_for_a_sweep_is_refused,
    give_back_that_waited_for_a_sweep_is_refused,
    handlers_transaction_goes_with_a_lost_lease,
    handlers_transaction_commits_with_its_lease,
    frozen_process_that_has_sent_its_completion_holds_nothing,
    heartbeat_does_not_wait_for_a_completion,
    heartbeat_never_revives_a_swept_lease,
    completions_do_not_deadlock,
    give_backs_do_not_deadlock,
    give_back_never_lowers_the_attempt,
    lost_leases_are_told_from_locked_rows,
]
