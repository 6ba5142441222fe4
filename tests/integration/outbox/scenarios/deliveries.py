"""Triggers: claimed, settled and buried by relays that may be slow, twice or dead (G5)."""

from datetime import timedelta
from uuid import UUID

from integration.outbox.actor import MINUTE, Actor
from integration.outbox.scenarios.claims import LOCK_JOB
from integration.outbox.stage import Stage

LOCK_TRIGGERS = "select id from outboxkit.outbox where job_id = %s for update"


async def relays_do_not_wait_for_each_other(stage: Stage) -> None:
    """A second relay passes over what the first is claiming and takes the next trigger."""
    for _ in range(2):
        await stage.enqueue()
    first, second = await stage.actors(2)
    await first.begin()
    (taken,) = await first.claim_triggers(slots=1)
    (next_one,) = await stage.at_once(second, second.claim_triggers(slots=1))
    assert taken[0] < next_one[0]
    await first.commit()


async def trigger_is_claimed_once_until_its_lease_ends(stage: Stage) -> None:
    """A relay whose snapshot is older than another's claim looks at the trigger again, and leaves it."""
    await stage.enqueue()
    first, second = await stage.actors(2)
    async with stage.held(second, "claim_triggers", second.claim_triggers()) as late:
        assert len(await first.claim_triggers()) == 1
    assert await stage.outcome(late) == []


async def triggers_lease_starts_when_the_row_is_had(stage: Stage) -> None:
    """A claim of triggers that was held up on its way gives the relay its full time all the same."""
    job = await stage.enqueue()
    relay = await stage.actor()
    async with stage.held(relay, "claim_triggers", relay.claim_triggers()) as claim:
        released = await stage.now()
    await stage.outcome(claim)
    trigger = await stage.trigger(job)
    assert trigger["due_at"] >= released + MINUTE


async def late_settlement_cannot_touch_a_later_claim(stage: Stage) -> None:
    """A relay whose lease ran out settles nothing once another relay has claimed the trigger."""
    job = await stage.enqueue()
    slow, quick = await stage.actors(2)
    (old,) = await slow.claim_triggers()
    await stage.lapse()
    (new,) = await quick.claim_triggers()
    before = await stage.triggers(job)
    assert await slow.ack(old) == []
    assert await slow.retry(old) == []
    assert await slow.give_back_triggers(old) == []
    assert await slow.bury(job, old) == (0, 0)
    assert (await stage.triggers(job), await stage.state(job)) == (before, "queued")
    assert await quick.ack(new) == [new[0]]


async def giving_a_trigger_back_keeps_the_fence(stage: Stage) -> None:
    """A trigger that was given back is claimed under a new number, so that its first claim stays dead."""
    job = await stage.enqueue()
    first, second = await stage.actors(2)
    (old,) = await first.claim_triggers()
    assert await first.give_back_triggers(old) == [old[0]]
    (new,) = await second.claim_triggers()
    assert new[1] > old[1]
    assert await first.ack(old) == []
    assert len(await stage.triggers(job)) == 1


async def trying_a_trigger_again_keeps_the_fence(stage: Stage) -> None:
    """So is one that is retried."""
    job = await stage.enqueue()
    first, second = await stage.actors(2)
    (old,) = await first.claim_triggers()
    assert await first.retry(old) == [old[0]]
    (new,) = await second.claim_triggers()
    assert new[1] > old[1]
    assert await first.ack(old) == []
    assert (await stage.triggers(job))[0]["attempts"] == 1


async def given_back_trigger_is_due_when_its_job_is(stage: Stage) -> None:
    """A trigger given back is due at once, but not before the time its job is scheduled for."""
    now = await stage.enqueue()
    later = await stage.enqueue(run_at=await stage.now() + 5 * MINUTE)
    relay = await stage.actor()
    await stage.lapse()
    claims = await relay.claim_triggers()
    await relay.give_back_triggers(*claims)
    at_once, scheduled = await stage.trigger(now), await stage.trigger(later)
    assert at_once["due_at"] <= await stage.now()
    assert scheduled["due_at"] == (await stage.job(later))["run_at"]


async def settlements_do_not_wait_for_a_claim(stage: Stage) -> None:
    """A relay leaves a row that a worker's claim is deleting, and does not wait for it: that would deadlock."""
    job = await stage.enqueue()
    relay, worker = await stage.actors(2)
    (trigger,) = await relay.claim_triggers()
    await worker.begin()
    await worker.claim(job)
    for settle in (relay.ack, relay.retry, relay.give_back_triggers):
        assert await stage.at_once(relay, settle(trigger)) == []
    await worker.rollback()
    assert await relay.ack(trigger) == [trigger[0]]


async def late_ack_cannot_delete_the_trigger_of_a_retry(stage: Stage) -> None:
    """A relay's answer that was on the way while the job was claimed, failed and queued again deletes nothing.

    Not even when the retry's own trigger has been claimed as often as the first.
    """
    job, slow, old = await _on_its_way(stage)
    worker = await stage.actor()
    (lease,) = await worker.claim(job)
    assert await worker.end(lease) == "queued"
    await _acked_too_late(stage, job, slow, old)


async def late_ack_cannot_delete_the_trigger_of_a_sweep(stage: Stage) -> None:
    """The same for the trigger that a sweep writes when the lease ran out."""
    job, slow, old = await _on_its_way(stage)
    worker = await stage.actor()
    await worker.claim(job)
    await stage.expire(job)
    await worker.sweep_leases()
    await _acked_too_late(stage, job, slow, old)


async def late_ack_cannot_delete_the_trigger_of_a_give_back(stage: Stage) -> None:
    """And for one that was given back."""
    job, slow, old = await _on_its_way(stage)
    worker = await stage.actor()
    (lease,) = await worker.claim(job)
    await worker.give_back(lease)
    await _acked_too_late(stage, job, slow, old)


async def late_ack_cannot_delete_the_trigger_of_a_replay(stage: Stage) -> None:
    """And for one that was replayed."""
    job, slow, old = await _on_its_way(stage)
    worker = await stage.actor()
    (lease,) = await worker.claim(job)
    await worker.end(lease, final=True)
    assert await worker.replay((await stage.letter(job))["id"]) == [job]
    await _acked_too_late(stage, job, slow, old)


async def late_ack_cannot_delete_the_trigger_of_a_rescue(stage: Stage) -> None:
    """And for one that another relay handed over, whose transport lost it."""
    job, slow, old = await _on_its_way(stage)
    other = await stage.actor()
    await stage.lapse()
    await other.ack(*await other.claim_triggers())
    await other.run("update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second'")
    assert await other.sweep_stranded() == ["queued"]
    await _acked_too_late(stage, job, slow, old)


async def _on_its_way(stage: Stage) -> tuple[UUID, Actor, tuple[int, int]]:
    """A job whose trigger a slow relay has sent: the job, the relay and its claim of the trigger."""
    job = await stage.enqueue()
    slow = await stage.actor()
    (claim,) = await slow.claim_triggers()
    return job, slow, claim


async def _acked_too_late(stage: Stage, job: UUID, slow: Actor, old: tuple[int, int]) -> None:
    """The job's new trigger is claimed by another relay, and the slow one acks its own."""
    quick = await stage.actor()
    (new,) = await quick.claim_triggers()
    assert await slow.ack(old) == []
    assert [row["id"] for row in await stage.triggers(job)] == [new[0]]


async def late_ack_of_a_leftover_cannot_delete_the_next_retrys_trigger(stage: Stage) -> None:
    """A trigger that a claim could not see is sent, and answered "running"; then the attempt fails, and the ack comes late.

    With one row a job, written again by every retry, the ack would delete it, and the job stay queued for ever.
    """
    job = await stage.enqueue()
    worker, duplicate, slow = await stage.actors(3)
    await worker.begin()
    (lease,) = await worker.claim(job)
    await worker.end(lease)
    step = stage.start(duplicate, duplicate.claim(job))
    await stage.blocked(step)
    await worker.commit()
    (again,) = await stage.outcome(step)
    (leftover,) = await slow.claim_triggers()
    assert await worker.claim(job) == []
    assert await duplicate.end(again) == "queued"
    (new,) = await worker.claim_triggers()
    await slow.ack(leftover)
    assert [row["id"] for row in await stage.triggers(job)] == [new[0]]


async def duplicate_triggers_claim_leaves_the_retrys_trigger(stage: Stage) -> None:
    """A duplicate trigger's claim that waited for the retry runs the job.

    The retry's own trigger, which the claim could not see, is left over, finds the job running, and is settled.
    """
    job = await stage.enqueue()
    worker, duplicate, relay = await stage.actors(3)
    await worker.begin()
    (lease,) = await worker.claim(job)
    await worker.end(lease)
    step = stage.start(duplicate, duplicate.claim(job))
    await stage.blocked(step)
    await worker.commit()
    (again,) = await stage.outcome(step)
    assert again.attempt == 2
    (left,) = await relay.claim_triggers()
    assert await worker.claim(job) == []
    assert await relay.ack(left) == [left[0]]
    assert await duplicate.complete(again) == {job}


async def buried_trigger_takes_its_job_along(stage: Stage) -> None:
    """A trigger's death deletes its row, fails its job and writes one dead letter, all at once."""
    job = await stage.enqueue()
    relay = await stage.actor()
    (trigger,) = await relay.claim_triggers()
    assert await relay.bury(job, trigger) == (1, 1)
    row = await stage.job(job)
    assert (row["state"], len(row["errors"]), row["finished_at"] is not None) == ("failed", 1, True)
    letter = await stage.letter(job)
    assert (letter["stage"], letter["attempts"], letter["last_status"]) == ("trigger", 1, 404)
    assert await stage.triggers(job) == []


async def running_jobs_trigger_is_no_dead_letter(stage: Stage) -> None:
    """A burial that waited for a claim finds the job running: the row goes, and no letter is written."""
    job = await stage.enqueue()
    relay, worker, keeper = await stage.actors(3)
    (trigger,) = await relay.claim_triggers()
    await keeper.begin()
    await keeper.run(LOCK_TRIGGERS, job)  # so that the claim passes over the row and leaves it
    await worker.begin()
    assert len(await worker.claim(job)) == 1
    await keeper.rollback()
    burial = stage.start(relay, relay.bury(job, trigger))
    await stage.blocked(burial)
    await worker.commit()
    assert await stage.outcome(burial) == (1, 0)
    assert (await stage.state(job), await stage.letters(job)) == ("running", [])


async def burial_after_a_claim_writes_nothing(stage: Stage) -> None:
    """A burial that waited for a claim which took the trigger along finds nothing to bury."""
    job = await stage.enqueue()
    relay, worker = await stage.actors(2)
    (trigger,) = await relay.claim_triggers()
    await worker.begin()
    await worker.claim(job)
    burial = stage.start(relay, relay.bury(job, trigger))
    await stage.blocked(burial)
    await worker.commit()
    assert await stage.outcome(burial) == (0, 0)
    assert (await stage.state(job), await stage.letters(job)) == ("running", [])


async def claim_that_waited_for_a_burial_gets_nothing(stage: Stage) -> None:
    """A claim that meets a burial sees the job failed, and does not run what a person sees as dead."""
    job = await stage.enqueue()
    relay, worker = await stage.actors(2)
    (trigger,) = await relay.claim_triggers()
    await relay.begin()
    assert await relay.bury(job, trigger) == (1, 1)
    claim = stage.start(worker, worker.claim(job))
    await stage.blocked(claim)
    await relay.commit()
    assert await stage.outcome(claim) == []
    assert (await stage.state(job), len(await stage.letters(job))) == ("failed", 1)


async def trigger_of_no_job_is_buried_with_a_letter(stage: Stage) -> None:
    """Where the job does not exist, the letter is written all the same: somebody must see it."""
    job = await stage.enqueue()
    relay = await stage.actor()
    (trigger,) = await relay.claim_triggers()
    await relay.run("delete from outboxkit.jobs where id = %s", job)
    assert await relay.bury(job, trigger) == (1, 1)
    assert len(await stage.letters(job)) == 1


async def burial_locks_the_job_before_its_trigger(stage: Stage) -> None:
    """While a burial waits for the job it holds no outbox row: jobs come before outbox, always."""
    job = await stage.enqueue()
    relay, other, looker = await stage.actors(3)
    (trigger,) = await relay.claim_triggers()
    await other.begin()
    await other.run(LOCK_JOB, job)
    burial = stage.start(relay, relay.bury(job, trigger))
    await stage.blocked(burial)
    await looker.run(f"{LOCK_TRIGGERS} nowait", job)
    await other.rollback()
    assert await stage.outcome(burial) == (1, 1)


async def burial_does_not_wait_for_a_settlement(stage: Stage) -> None:
    """A burial leaves a row that somebody else is settling."""
    job = await stage.enqueue()
    relay, other = await stage.actors(2)
    (trigger,) = await relay.claim_triggers()
    await other.begin()
    await other.retry(trigger)
    assert await stage.at_once(relay, relay.bury(job, trigger)) == (0, 0)
    await other.commit()
    assert await stage.state(job) == "queued"


async def claim_triggers_leaves_what_is_not_due(stage: Stage) -> None:
    """A trigger is nobody's before its time, and so is one that another relay holds."""
    await stage.enqueue(run_at=await stage.now() + timedelta(seconds=60))
    await stage.enqueue()
    first, second = await stage.actors(2)
    assert len(await first.claim_triggers()) == 1
    assert await second.claim_triggers() == []


SCENARIOS = [
    relays_do_not_wait_for_each_other,
    trigger_is_claimed_once_until_its_lease_ends,
    triggers_lease_starts_when_the_row_is_had,
    late_settlement_cannot_touch_a_later_claim,
    giving_a_trigger_back_keeps_the_fence,
    trying_a_trigger_again_keeps_the_fence,
    given_back_trigger_is_due_when_its_job_is,
    settlements_do_not_wait_for_a_claim,
    late_ack_cannot_delete_the_trigger_of_a_retry,
    late_ack_cannot_delete_the_trigger_of_a_sweep,
    late_ack_cannot_delete_the_trigger_of_a_give_back,
    late_ack_cannot_delete_the_trigger_of_a_replay,
    late_ack_cannot_delete_the_trigger_of_a_rescue,
    late_ack_of_a_leftover_cannot_delete_the_next_retrys_trigger,
    duplicate_triggers_claim_leaves_the_retrys_trigger,
    buried_trigger_takes_its_job_along,
    running_jobs_trigger_is_no_dead_letter,
    burial_after_a_claim_writes_nothing,
    claim_that_waited_for_a_burial_gets_nothing,
    trigger_of_no_job_is_buried_with_a_letter,
    burial_locks_the_job_before_its_trigger,
    burial_does_not_wait_for_a_settlement,
    claim_triggers_leaves_what_is_not_due,
]
