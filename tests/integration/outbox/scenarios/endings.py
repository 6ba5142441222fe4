"""How jobs end: retries, failures, cancellation and replays, against one another."""

from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from integration.outbox.actor import Actor
from integration.outbox.stage import Stage


async def retry_writes_one_trigger_for_its_time(stage: Stage) -> None:
    """A failed attempt with attempts left is queued for later, with one new trigger due at the same time."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    assert await worker.end(lease, delay=60) == "queued"
    row = await stage.job(job)
    trigger = await stage.trigger(job)
    assert trigger["due_at"] == row["run_at"] > await stage.now()
    assert (row["lease_until"], len(row["errors"]), row["finished_at"]) == (None, 1, None)


async def last_failure_is_a_dead_letter(stage: Stage) -> None:
    """The last attempt's failure fails the job and writes its dead letter in the same statement."""
    worker = await stage.actor()
    job, lease = await stage.running(worker, "ONCE")
    assert await worker.end(lease) == "failed"
    letter = await stage.letter(job)
    assert (letter["stage"], letter["reason"], letter["last_error"], letter["attempts"]) == ("job", "error", "boom", 1)
    assert (await stage.job(job))["finished_at"] is not None
    assert await stage.triggers(job) == []


async def final_failure_does_not_wait_for_the_last_attempt(stage: Stage) -> None:
    """A handler that says trying again is no use is believed at its first attempt."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    assert await worker.end(lease, final=True) == "failed"
    assert (len(await stage.letters(job)), await stage.triggers(job)) == (1, [])


async def retry_of_a_cancelled_job_cancels_it(stage: Stage) -> None:
    """A retry, a failure or a give-back after somebody asked for cancellation ends the job as cancelled."""
    worker = await stage.actor()
    for kind in ("K", "ONCE"):
        job, lease = await stage.running(worker, kind)
        await worker.cancel(job)
        assert await worker.end(lease) == "cancelled"
        assert (await stage.triggers(job), await stage.letters(job)) == ([], [])
        assert (await stage.job(job))["finished_at"] is not None


async def give_back_of_a_cancelled_job_cancels_it(stage: Stage) -> None:
    """A job that is to be cancelled is not queued again when its worker shuts down."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    await worker.cancel(job)
    assert await worker.give_back(lease) == {job}
    row = await stage.job(job)
    assert (row["state"], row["finished_at"] is not None, await stage.triggers(job)) == ("cancelled", True, [])


async def cancel_that_waited_for_a_claim_asks_the_holder(stage: Stage) -> None:
    """A cancel that meets a claim sees the job running, and asks; it does not take the job away."""
    job = await stage.enqueue()
    worker, person = await stage.actors(2)
    await worker.begin()
    (lease,) = await worker.claim(job)
    cancel = stage.start(person, person.cancel(job))
    await stage.blocked(cancel)
    await worker.commit()
    assert await stage.outcome(cancel) == ("running", True)
    assert await worker.complete(lease) == {job}


async def claim_that_waited_for_a_cancel_gets_nothing(stage: Stage) -> None:
    """A claim that meets a cancel sees the job cancelled, and leaves it."""
    job = await stage.enqueue()
    worker, person = await stage.actors(2)
    await person.begin()
    assert await person.cancel(job) == ("cancelled", True)
    claim = stage.start(worker, worker.claim(job))
    await stage.blocked(claim)
    await person.commit()
    assert await stage.outcome(claim) == []
    assert (await stage.state(job), await stage.triggers(job)) == ("cancelled", [])


async def cancel_that_waited_for_a_completion_says_so(stage: Stage) -> None:
    """A cancel that comes too late says what the job has become, not what it was."""
    worker, person = await stage.actors(2)
    job, lease = await stage.running(worker)
    await worker.begin()
    await worker.complete(lease)
    cancel = stage.start(person, person.cancel(job))
    await stage.blocked(cancel)
    await worker.commit()
    assert await stage.outcome(cancel) == ("succeeded", False)
    assert (await stage.job(job))["cancel_requested_at"] is None


async def cancel_that_waited_for_a_retry_cancels_it(stage: Stage) -> None:
    """A cancel that meets a retry sees the job queued, and cancels it.

    The retry's trigger, which the cancel could not see, is left over; it is sent, finds the job cancelled, and is settled.
    """
    worker, person, relay = await stage.actors(3)
    job, lease = await stage.running(worker)
    await worker.begin()
    assert await worker.end(lease) == "queued"
    cancel = stage.start(person, person.cancel(job))
    await stage.blocked(cancel)
    await worker.commit()
    assert await stage.outcome(cancel) == ("cancelled", True)
    assert await stage.state(job) == "cancelled"
    for left in await relay.claim_triggers():
        assert await worker.claim(job) == []
        assert await relay.ack(left) == [left[0]]
    assert await stage.triggers(job) == []


async def cancel_that_waited_for_a_replay_cancels_it(stage: Stage) -> None:
    """A cancel that meets a replay finds the job queued again, and cancels it: what a person cancelled does not run."""
    replaying, cancelling = await stage.actors(2)
    job, letter = await dead(stage, replaying)
    await replaying.begin()
    assert await replaying.replay(letter) == [job]
    cancel = stage.start(cancelling, cancelling.cancel(job))
    await stage.blocked(cancel)
    await replaying.commit()
    assert await stage.outcome(cancel) == ("cancelled", True)
    assert await stage.state(job) == "cancelled"


async def retry_that_waited_for_a_cancel_cancels(stage: Stage) -> None:
    """A retry that meets a cancel sees the request, and ends the job as cancelled: nothing runs it again."""
    worker, person = await stage.actors(2)
    job, lease = await stage.running(worker)
    await _cancelled_meanwhile(stage, person, worker, job, worker.end(lease))


async def give_back_that_waited_for_a_cancel_cancels(stage: Stage) -> None:
    """So does a give-back."""
    worker, person = await stage.actors(2)
    job, lease = await stage.running(worker)
    await _cancelled_meanwhile(stage, person, worker, job, worker.give_back(lease))


async def _cancelled_meanwhile(
    stage: Stage, person: Actor, worker: Actor, job: UUID, write: Coroutine[Any, Any, Any]
) -> None:
    await person.begin()
    assert await person.cancel(job) == ("running", True)
    step = stage.start(worker, write)
    await stage.blocked(step)
    await person.commit()
    await stage.outcome(step)
    assert (await stage.state(job), await stage.triggers(job)) == ("cancelled", [])
    assert await worker.claim(job) == []


async def cancel_does_not_wait_for_a_settlement(stage: Stage) -> None:
    """A cancel leaves a trigger that a relay is settling: it finds a cancelled job."""
    job = await stage.enqueue()
    relay, person = await stage.actors(2)
    (trigger,) = await relay.claim_triggers()
    await relay.begin()
    await relay.retry(trigger)
    assert await stage.at_once(person, person.cancel(job)) == ("cancelled", True)
    await relay.commit()
    assert await relay.claim(job) == []


async def dead(stage: Stage, worker: Actor, kind: str = "ONCE") -> tuple[UUID, int]:
    """A job that has failed, and its dead letter."""
    job, lease = await stage.running(worker, kind)
    await worker.end(lease, final=True)
    return job, (await stage.letters(job))[-1]["id"]


async def replay_by_two_at_once_happens_once(stage: Stage) -> None:
    """Of two people who press at once one replays the job; it gets one trigger."""
    first, second = await stage.actors(2)
    job, letter = await dead(stage, first)
    await first.begin()
    assert await first.replay(letter) == [job]
    late = stage.start(second, second.replay(letter))
    await stage.blocked(late)
    await first.commit()
    assert await stage.outcome(late) == []
    assert len(await stage.triggers(job)) == 1


async def replayed_letter_is_not_replayed_again(stage: Stage) -> None:
    """A letter that was replayed stays replayed, also when its job has died again: that is another letter."""
    worker = await stage.actor()
    job, letter = await dead(stage, worker)
    await worker.replay(letter)
    (lease,) = await worker.claim(job)
    await worker.end(lease, final=True)
    assert await worker.replay(letter) == []
    assert await stage.state(job) == "failed"


async def replay_needs_a_failed_job(stage: Stage) -> None:
    """An open letter whose job runs again is left open, and the job is left alone."""
    worker = await stage.actor()
    job, letter = await dead(stage, worker)
    await worker.replay(letter)
    await worker.run("update outboxkit.dead_letters set replayed_at = null")
    assert len(await worker.claim(job)) == 1
    assert await worker.replay(letter) == []
    assert (await stage.state(job), (await stage.letters(job))[0]["replayed_at"]) == ("running", None)


async def replay_never_lowers_the_attempt(stage: Stage) -> None:
    """A replayed job goes on counting where it was, with more attempts allowed: its old tokens stay dead."""
    worker = await stage.actor()
    job, lease = await stage.running(worker, "ONCE")
    await worker.end(lease)
    await worker.replay((await stage.letters(job))[0]["id"])
    row = await stage.job(job)
    assert (row["state"], row["attempt"], row["max_attempts"], row["finished_at"]) == ("queued", 1, 4, None)
    (again,) = await worker.claim(job)
    assert again.attempt > lease.attempt
    assert await worker.complete(lease) == set()


async def replay_of_a_job_never_claimed_keeps_its_handlers_limit(stage: Stage) -> None:
    """A job whose trigger died before any claim has no limit yet; the replay leaves that to its handler."""
    relay = await stage.actor()
    job = await stage.enqueue("ONCE")
    (trigger,) = await relay.claim_triggers()
    await relay.bury(job, trigger)
    await relay.replay((await stage.letters(job))[0]["id"])
    (lease,) = await relay.claim(job)
    assert (lease.attempt, lease.max_attempts) == (1, 1)


async def replay_starts_the_rescues_anew(stage: Stage) -> None:
    """A job that died stranded has all its rescues again after a replay, and is not cancelled by an old request."""
    worker = await stage.actor()
    job, letter = await dead(stage, worker)
    await worker.run("update outboxkit.jobs set rescues = 6, rescue_at = now(), cancel_requested_at = now()")
    await worker.replay(letter)
    row = await stage.job(job)
    assert (row["rescues"], row["rescue_at"], row["cancel_requested_at"]) == (0, None, None)


async def history_keeps_the_last_twenty_failures(stage: Stage) -> None:
    """The column `errors` holds failures only, the last twenty, the newest last."""
    worker = await stage.actor()
    job = await stage.enqueue(max_attempts=100)
    for _ in range(23):
        (lease,) = await worker.claim(job)
        await worker.end(lease)
    assert [entry["attempt"] for entry in (await stage.job(job))["errors"]] == list(range(4, 24))


SCENARIOS = [
    retry_writes_one_trigger_for_its_time,
    last_failure_is_a_dead_letter,
    final_failure_does_not_wait_for_the_last_attempt,
    retry_of_a_cancelled_job_cancels_it,
    give_back_of_a_cancelled_job_cancels_it,
    cancel_that_waited_for_a_claim_asks_the_holder,
    claim_that_waited_for_a_cancel_gets_nothing,
    cancel_that_waited_for_a_completion_says_so,
    cancel_that_waited_for_a_retry_cancels_it,
    cancel_that_waited_for_a_replay_cancels_it,
    retry_that_waited_for_a_cancel_cancels,
    give_back_that_waited_for_a_cancel_cancels,
    cancel_does_not_wait_for_a_settlement,
    replay_by_two_at_once_happens_once,
    replayed_letter_is_not_replayed_again,
    replay_needs_a_failed_job,
    replay_never_lowers_the_attempt,
    replay_of_a_job_never_claimed_keeps_its_handlers_limit,
    replay_starts_the_rescues_anew,
    history_keeps_the_last_twenty_failures,
]
