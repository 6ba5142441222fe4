"""Sweeps: two at once, and against everybody else (G2, G4)."""

from datetime import timedelta
from uuid import UUID

from integration.outbox.actor import MINUTE, Actor
from integration.outbox.stage import Stage
from outboxkit import sweeps
from outboxkit.sweeps import SweepLimits, Swept

HOUR = timedelta(hours=1)
LIMITS = SweepLimits(stranded_after=MINUTE, keep_finished=timedelta(0))


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


async def lease_put_right_meanwhile_is_not_swept(stage: Stage) -> None:
    """A heartbeat between a sweep's snapshot and its lock also saves a lease that was too far ahead."""
    worker, sweeper = await stage.actors(2)
    job = await stage.enqueue()
    (lease,) = await worker.claim(job, lease=3 * HOUR)
    async with stage.held(sweeper, "sweep_expired_leases", sweeper.sweep_leases(longest=HOUR)) as sweep:
        assert await worker.heartbeat(lease) == {job}
    assert await stage.outcome(sweep) == []
    assert await stage.state(job) == "running"


async def expiry_sees_a_cancel_that_came_meanwhile(stage: Stage) -> None:
    """A cancel between a sweep's snapshot and its lock counts: the job is not queued again."""
    worker, sweeper = await stage.actors(2)
    job = await _expired(stage, worker)
    async with stage.held(sweeper, "sweep_expired_leases", sweeper.sweep_leases()) as sweep:
        assert await worker.cancel(job) == ("running", True)
    assert await stage.outcome(sweep) == ["cancelled"]
    assert await stage.triggers(job) == []


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
    job = await stage.stranded()
    first, second = await stage.actors(2)
    async with stage.held(second, "sweep_stranded", second.sweep_stranded()) as late:
        assert await first.sweep_stranded() == ["queued"]
    assert await stage.outcome(late) == []
    assert len(await stage.triggers(job)) == 1


async def stranded_job_is_rearmed_once_though_its_sweeps_meet(stage: Stage) -> None:
    """Nor does a sweep that comes while another's work is not committed, whether it waits or passes over the job."""
    job = await stage.stranded()
    first, second = await stage.actors(2)
    await first.begin()
    assert await first.sweep_stranded() == ["queued"]
    late = stage.start(second, second.sweep_stranded())
    await stage.at_rest(late)
    await first.commit()
    assert await stage.outcome(late) == []
    assert len(await stage.triggers(job)) == 1


async def stranded_sweeps_do_not_wait_for_each_other(stage: Stage) -> None:
    """A second sweep passes over the jobs that the first is re-arming."""
    await stage.stranded()
    first, second = await stage.actors(2)
    await first.begin()
    assert await first.sweep_stranded() == ["queued"]
    assert await stage.at_once(second, second.sweep_stranded()) == []
    await first.commit()


async def stranded_job_is_not_rearmed_at_every_sweep(stage: Stage) -> None:
    """A job re-armed and handed over again is left to its transport for a while, each time twice as long."""
    job = await stage.stranded()
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
    """A job that was triggered again and again and never claimed fails, with its dead letter, where others are done."""
    job = await stage.stranded(rescues=5)
    await stage.succeeded()
    sweeper = await stage.actor()
    assert await sweeper.sweep_stranded() == ["failed"]
    letter = await stage.letter(job)
    assert (letter["stage"], letter["reason"], letter["attempts"]) == ("trigger", "stranded", 6)
    assert (await stage.state(job), await stage.triggers(job)) == ("failed", [])


async def rescues_wait_no_longer_than_a_cap(stage: Stage) -> None:
    """The doubling ends: a job that was rescued very often waits a thousand times the first wait, not for years."""
    job = await stage.stranded(rescues=20)
    sweeper = await stage.actor()
    before = await stage.now()
    assert await sweeper.sweep_stranded(rescues=100) == ["queued"]
    assert (await stage.job(job))["rescue_at"] - before < 1025 * MINUTE


async def claimed_job_is_not_rearmed(stage: Stage) -> None:
    """A claim that comes between a sweep's snapshot and its lock: the job runs, and no trigger is written."""
    job = await stage.stranded()
    worker, sweeper = await stage.actors(2)
    async with stage.held(sweeper, "sweep_stranded", sweeper.sweep_stranded()) as sweep:
        assert len(await worker.claim(job)) == 1
    assert await stage.outcome(sweep) == []
    assert (await stage.state(job), await stage.triggers(job)) == ("running", [])


async def job_retried_meanwhile_is_not_rearmed(stage: Stage) -> None:
    """A claim and its retry between a sweep's snapshot and its lock: the retry's own trigger is the only one.

    The sweep cannot see that trigger. What it does see, because it is on the row that it locks, is that nothing is to be
    rescued any more.
    """
    job = await stage.stranded()
    worker, sweeper = await stage.actors(2)
    async with stage.held(sweeper, "sweep_stranded", sweeper.sweep_stranded()) as sweep:
        (lease,) = await worker.claim(job)
        assert await worker.end(lease) == "queued"
    assert await stage.outcome(sweep) == []
    assert len(await stage.triggers(job)) == 1


async def frozen_sweeper_stops_nobody(stage: Stage) -> None:
    """A sweeper that has frozen, after a sweep or in the middle of one, holds nobody up: others heal what comes next."""
    frozen, sweeper, worker = await stage.actors(3)
    await _heals(stage, frozen, worker)
    await _heals(stage, sweeper, worker)
    await frozen.begin()
    await _heals(stage, frozen, worker)
    await _heals(stage, sweeper, worker)
    await frozen.rollback()


async def _heals(stage: Stage, sweeper: Actor, worker: Actor) -> None:
    """Sweep something of each kind, as processes do, without waiting for anybody."""
    _, lease = await stage.running(worker)
    await worker.complete(lease)
    await _expired(stage, worker)
    await stage.stranded()
    healed = await stage.at_once(sweeper, sweeps.heal(sweeper.connection, LIMITS))
    assert healed == Swept(requeued=1, rearmed=1)
    assert await stage.at_once(sweeper, sweeps.retire(sweeper.connection, LIMITS)) == 1


async def stranded_sweep_does_not_wait_for_a_claim(stage: Stage) -> None:
    """A job that is being claimed is no longer stranded, and nobody waits to find that out."""
    job = await stage.stranded()
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


async def job_that_died_again_is_not_retired(stage: Stage) -> None:
    """A replay, and another death, between retention's snapshot and its lock: the job is kept, for its new letter is open.

    Retention cannot see that letter; it sees that the job ended a moment ago.
    """
    worker, sweeper = await stage.actors(2)
    job, lease = await stage.running(worker, "ONCE")
    await worker.end(lease)
    letter = await stage.letter(job)
    await worker.run("update outboxkit.jobs set finished_at = clock_timestamp() - interval '2 hours'")
    # Without the letter's protection, as for a letter that was replayed before.
    await worker.run("update outboxkit.dead_letters set replayed_at = clock_timestamp()")
    async with stage.held(sweeper, "sweep_finished_jobs", sweeper.sweep_finished(keep=HOUR)) as sweep:
        await worker.run("update outboxkit.dead_letters set replayed_at = null")
        assert await worker.replay(letter["id"]) == [job]
        (lease,) = await worker.claim(job)
        await worker.end(lease, final=True)
    assert await stage.outcome(sweep) == []
    assert (await stage.state(job), len(await stage.letters(job))) == ("failed", 2)


async def retention_of_letters_does_not_wait(stage: Stage) -> None:
    """Nor does the retention of dead letters: one that somebody holds is passed over."""
    person, sweeper = await stage.actors(2)
    job = await _expired(stage, person, "ONCE")
    await person.sweep_leases()
    letter = (await stage.letter(job))["id"]
    await person.replay(letter)
    await person.begin()
    await person.run("select id from outboxkit.dead_letters where id = %s for update", letter)
    assert await stage.at_once(sweeper, sweeper.sweep_letters()) == []
    await person.rollback()
    assert await sweeper.sweep_letters() == [letter]


async def retention_does_not_wait(stage: Stage) -> None:
    """A job that somebody is just replaying holds nobody up."""
    worker, sweeper = await stage.actors(2)
    job, lease = await stage.running(worker)
    await worker.complete(lease)
    await worker.begin()
    await worker.run("select id from outboxkit.jobs where id = %s for no key update", job)
    assert await stage.at_once(sweeper, sweeper.sweep_finished()) == []
    await worker.rollback()


async def trigger_left_over_is_retired_with_its_job(stage: Stage) -> None:
    """A trigger that a cancel could not see goes when its job does: later it would be a dead letter for nothing."""
    worker, person = await stage.actors(2)
    job, lease = await stage.running(worker)
    await worker.begin()
    assert await worker.end(lease) == "queued"
    cancel = stage.start(person, person.cancel(job))
    await stage.blocked(cancel)
    await worker.commit()
    assert await stage.outcome(cancel) == ("cancelled", True)
    assert len(await stage.triggers(job)) == 1
    assert await worker.sweep_finished() == [job]
    assert await stage.triggers(job) == []


async def retention_of_records_does_not_wait(stage: Stage) -> None:
    """A record that somebody holds is passed over, and deleted the next time."""
    holder, sweeper = await stage.actors(2)
    await holder.run(
        "insert into outboxkit.audit (at, actor, action, subject) values (now() - interval '2 years', 'who', 'did', 'what')"
    )
    await holder.begin()
    await holder.run("select from outboxkit.audit for update")
    assert await stage.at_once(sweeper, sweeper.sweep_records()) == 0
    await holder.rollback()
    assert await sweeper.sweep_records() == 1


SCENARIOS = [
    expired_sweeps_do_not_wait_for_each_other,
    expired_lease_is_swept_once,
    renewed_lease_is_not_swept,
    completed_job_is_not_swept,
    lease_put_right_meanwhile_is_not_swept,
    expiry_sees_a_cancel_that_came_meanwhile,
    live_lease_is_not_swept,
    last_attempts_expiry_is_a_dead_letter,
    expiry_is_bounded_by_the_attempts,
    lease_too_far_ahead_has_expired,
    expiry_of_a_cancelled_job_cancels_it,
    stranded_job_is_rearmed_once_by_two_sweeps,
    stranded_job_is_rearmed_once_though_its_sweeps_meet,
    stranded_sweeps_do_not_wait_for_each_other,
    stranded_job_is_not_rearmed_at_every_sweep,
    stranded_job_with_a_trigger_is_left,
    stranded_too_often_is_a_dead_letter,
    rescues_wait_no_longer_than_a_cap,
    claimed_job_is_not_rearmed,
    job_retried_meanwhile_is_not_rearmed,
    frozen_sweeper_stops_nobody,
    stranded_sweep_does_not_wait_for_a_claim,
    job_with_an_open_letter_is_kept,
    replayed_job_is_not_retired,
    job_that_died_again_is_not_retired,
    retention_of_letters_does_not_wait,
    retention_does_not_wait,
    trigger_left_over_is_retired_with_its_job,
    retention_of_records_does_not_wait,
]
