"""Sweeps: two at once, and against everybody else (G2, G4; DESIGN.md §4, §11.1-2, 11.10)."""

from datetime import timedelta
from uuid import UUID

from integration.outbox.actor import MINUTE, Actor
from integration.outbox.stage import Stage

HOUR = timedelta(hours=1)


async def _stranded(stage: Stage, rescues: int = 0) -> UUID:
    """A queued job whose trigger was handed over and lost."""
    job = await stage.enqueue()
    await stage.observer.run("delete from outboxkit.outbox where job_id = %s", job)
    await stage.observer.run(
        "update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second', rescues = %s where id = %s",
        rescues,
        job,
    )
    return job


async def _expired(stage: Stage, worker: Actor, kind: str = "K") -> UUID:
    job, _ = await stage.running(worker, kind)
    await stage.expire(job)
    return job


async def expired_sweeps_do_not_wait_for_each_other(stage: Stage) -> None:
    """A second sweep passes over the jobs that the first is sweeping; a frozen sweeper stops nobody."""
    first, second = await stage.actors(2)
    await _expired(stage, first)
    await first.begin()
    assert await first.sweep_leases() == ["queued"]
    other = await _expired(stage, second)
    assert await stage.at_once(second, second.sweep_leases()) == ["queued"]
    assert await stage.state(other) == "queued"
    await first.commit()


async def expired_lease_is_swept_once(stage: Stage) -> None:
    """A sweep whose snapshot is older than another's work looks again, and writes no second trigger."""
    first, second = await stage.actors(2)
    job = await _expired(stage, first)
    async with stage.held(second, "sweep_expired_leases", second.sweep_leases()) as late:
        assert await first.sweep_leases() == ["queued"]
    assert await stage.outcome(late) == []
    assert len(await stage.triggers(job)) == 1


async def renewed_lease_is_not_swept(stage: Stage) -> None:
    """A heartbeat that comes between a sweep's snapshot and its lock saves the lease."""
    worker, sweeper = await stage.actors(2)
    job, lease = await stage.running(worker)
    await stage.expire(job)
    async with stage.held(sweeper, "sweep_expired_leases", sweeper.sweep_leases()) as sweep:
        assert await worker.heartbeat(lease) == {job}
    assert await stage.outcome(sweep) == []
    assert await stage.state(job) == "running"


async def completed_job_is_not_swept(stage: Stage) -> None:
    """So does a completion: a job that has succeeded does not run again."""
    worker, sweeper = await stage.actors(2)
    job, lease = await stage.running(worker)
    await stage.expire(job)
    async with stage.held(sweeper, "sweep_expired_leases", sweeper.sweep_leases()) as sweep:
        assert await worker.complete(lease) == {job}
    assert await stage.outcome(sweep) == []
    assert (await stage.state(job), await stage.triggers(job)) == ("succeeded", [])


async def live_lease_is_not_swept(stage: Stage) -> None:
    """A lease that has not run out is its holder's."""
    worker = await stage.actor()
    job, _ = await stage.running(worker)
    assert await worker.sweep_leases() == []
    assert await stage.state(job) == "running"


async def last_attempts_expiry_is_a_dead_letter(stage: Stage) -> None:
    """A job whose last attempt lost its lease fails, and its dead letter is written by the same statement."""
    worker = await stage.actor()
    job = await _expired(stage, worker, "ONCE")
    assert await worker.sweep_leases() == ["failed"]
    letter = await stage.letter(job)
    assert (letter["stage"], letter["reason"], letter["attempts"]) == ("job", "lease-expired", 1)
    row = await stage.job(job)
    assert (row["state"], row["finished_at"] is not None, row["lease_until"]) == ("failed", True, None)
    assert await stage.triggers(job) == []


async def expiry_is_bounded_by_the_attempts(stage: Stage) -> None:
    """A payload that kills its worker kills as many as it has attempts, and no more."""
    worker = await stage.actor()
    job = await stage.enqueue()
    states = []
    for _ in range(3):
        await worker.claim(job)
        await stage.expire(job)
        states += await worker.sweep_leases()
    assert states == ["queued", "queued", "failed"]
    assert (await worker.claim(job), len(await stage.letters(job))) == ([], 1)


async def lease_too_far_ahead_has_expired(stage: Stage) -> None:
    """A lease longer than any can be was written before the clock stepped back: the job is taken over at once."""
    worker = await stage.actor()
    job = await stage.enqueue()
    await worker.claim(job, lease=3 * HOUR)
    assert await worker.sweep_leases(longest=4 * HOUR) == []
    assert await worker.sweep_leases(longest=HOUR) == ["queued"]
    assert len(await stage.triggers(job)) == 1


async def expiry_of_a_cancelled_job_cancels_it(stage: Stage) -> None:
    """Cancellation was asked for and the holder is gone: the job ends as cancelled and is not queued again."""
    worker = await stage.actor()
    job, _ = await stage.running(worker)
    assert await worker.cancel(job) == ("running", True)
    await stage.expire(job)
    assert await worker.sweep_leases() == ["cancelled"]
    assert (await stage.state(job), await stage.triggers(job), await stage.letters(job)) == ("cancelled", [], [])


async def stranded_job_is_rearmed_once_by_two_sweeps(stage: Stage) -> None:
    """A sweep whose snapshot is older than another's work looks at rescue_at again, and writes no second trigger."""
    job = await _stranded(stage)
    first, second = await stage.actors(2)
    async with stage.held(second, "sweep_stranded", second.sweep_stranded()) as late:
        assert await first.sweep_stranded() == ["queued"]
    assert await stage.outcome(late) == []
    assert len(await stage.triggers(job)) == 1


async def stranded_sweeps_do_not_wait_for_each_other(stage: Stage) -> None:
    """A second sweep passes over the jobs that the first is re-arming."""
    await _stranded(stage)
    first, second = await stage.actors(2)
    await first.begin()
    assert await first.sweep_stranded() == ["queued"]
    assert await stage.at_once(second, second.sweep_stranded()) == []
    await first.commit()


async def stranded_job_is_not_rearmed_at_every_sweep(stage: Stage) -> None:
    """A job re-armed and handed over again is left to its transport for a while, each time twice as long."""
    job = await _stranded(stage)
    sweeper = await stage.actor()
    waits = []
    for _ in range(3):
        before = await stage.now()
        assert await sweeper.sweep_stranded() == ["queued"]
        waits.append((await stage.job(job))["rescue_at"] - before)
        await sweeper.run("delete from outboxkit.outbox")
        assert await sweeper.sweep_stranded() == []
        await sweeper.run("update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second'")
    assert [round(wait / MINUTE) for wait in waits] == [2, 4, 8]


async def stranded_job_with_a_trigger_is_left(stage: Stage) -> None:
    """A queued job that has a trigger is on its way and needs none, however late it is."""
    job = await stage.enqueue()
    sweeper = await stage.actor()
    await sweeper.run("update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second'")
    assert await sweeper.sweep_stranded() == []
    assert len(await stage.triggers(job)) == 1


async def stranded_too_often_is_a_dead_letter(stage: Stage) -> None:
    """A job that was triggered again and again and never claimed fails, with its dead letter."""
    job = await _stranded(stage, rescues=5)
    sweeper = await stage.actor()
    assert await sweeper.sweep_stranded() == ["failed"]
    letter = await stage.letter(job)
    assert (letter["stage"], letter["reason"], letter["attempts"]) == ("trigger", "stranded", 6)
    assert (await stage.state(job), await stage.triggers(job)) == ("failed", [])


async def rescues_wait_no_longer_than_a_cap(stage: Stage) -> None:
    """The doubling ends: a job that was rescued very often waits a thousand times the first wait, not for years."""
    job = await _stranded(stage, rescues=20)
    sweeper = await stage.actor()
    before = await stage.now()
    assert await sweeper.sweep_stranded(rescues=100) == ["queued"]
    assert (await stage.job(job))["rescue_at"] - before < 1025 * MINUTE


async def claimed_job_is_not_rearmed(stage: Stage) -> None:
    """A claim that comes between a sweep's snapshot and its lock: the job runs, and no trigger is written."""
    job = await _stranded(stage)
    worker, sweeper = await stage.actors(2)
    async with stage.held(sweeper, "sweep_stranded", sweeper.sweep_stranded()) as sweep:
        assert len(await worker.claim(job)) == 1
    assert await stage.outcome(sweep) == []
    assert (await stage.state(job), await stage.triggers(job)) == ("running", [])


async def stranded_sweep_does_not_wait_for_a_claim(stage: Stage) -> None:
    """A job that is being claimed is no longer stranded, and nobody waits to find that out."""
    job = await _stranded(stage)
    worker, sweeper = await stage.actors(2)
    await worker.begin()
    await worker.claim(job)
    assert await stage.at_once(sweeper, sweeper.sweep_stranded()) == []
    await worker.commit()


async def job_with_an_open_letter_is_kept(stage: Stage) -> None:
    """Retention deletes what ended long ago, but not a job whose dead letter nobody has dealt with."""
    worker = await stage.actor()
    dead = await _expired(stage, worker, "ONCE")
    await worker.sweep_leases()
    done, lease = await stage.running(worker)
    await worker.complete(lease)
    assert await worker.sweep_finished() == [done]
    assert await stage.state(dead) == "failed"


async def replayed_job_is_not_retired(stage: Stage) -> None:
    """A replay that comes between retention's snapshot and its lock saves the job."""
    worker, sweeper = await stage.actors(2)
    job = await _expired(stage, worker, "ONCE")
    await worker.sweep_leases()
    letter = await stage.letter(job)
    # Without the letter's protection, as for a letter that was replayed before.
    await worker.run("update outboxkit.dead_letters set replayed_at = clock_timestamp()")
    async with stage.held(sweeper, "sweep_finished_jobs", sweeper.sweep_finished()) as sweep:
        await worker.run("update outboxkit.dead_letters set replayed_at = null")
        assert await worker.replay(letter["id"]) == [job]
    assert await stage.outcome(sweep) == []
    assert await stage.state(job) == "queued"


async def retention_does_not_wait(stage: Stage) -> None:
    """A job that somebody is just replaying holds nobody up."""
    worker, sweeper = await stage.actors(2)
    job, lease = await stage.running(worker)
    await worker.complete(lease)
    await worker.begin()
    await worker.run("select id from outboxkit.jobs where id = %s for no key update", job)
    assert await stage.at_once(sweeper, sweeper.sweep_finished()) == []
    await worker.rollback()


SCENARIOS = [
    expired_sweeps_do_not_wait_for_each_other,
    expired_lease_is_swept_once,
    renewed_lease_is_not_swept,
    completed_job_is_not_swept,
    live_lease_is_not_swept,
    last_attempts_expiry_is_a_dead_letter,
    expiry_is_bounded_by_the_attempts,
    lease_too_far_ahead_has_expired,
    expiry_of_a_cancelled_job_cancels_it,
    stranded_job_is_rearmed_once_by_two_sweeps,
    stranded_sweeps_do_not_wait_for_each_other,
    stranded_job_is_not_rearmed_at_every_sweep,
    stranded_job_with_a_trigger_is_left,
    stranded_too_often_is_a_dead_letter,
    rescues_wait_no_longer_than_a_cap,
    claimed_job_is_not_rearmed,
    stranded_sweep_does_not_wait_for_a_claim,
    job_with_an_open_letter_is_kept,
    replayed_job_is_not_retired,
    retention_does_not_wait,
]
