"""Triggers that a transport takes over to deliver later, and what becomes of them if it does not (G2, G6)."""

from datetime import timedelta
from uuid import UUID

from integration.outbox.actor import MINUTE, Actor
from integration.outbox.scenarios.deliveries import LOCK_TRIGGERS
from integration.outbox.stage import Stage, only

DAY = timedelta(days=1)
MONTH = timedelta(days=30)


async def _claimed(stage: Stage) -> tuple[UUID, Actor, tuple[int, int]]:
    """A job, a relay, and its claim of the job's trigger."""
    job = await stage.enqueue()
    relay = await stage.actor()
    (claim,) = await relay.claim_triggers(ahead=MONTH)
    return job, relay, claim


async def job_handed_over_is_looked_after(stage: Stage) -> None:
    """The row goes, and the same statement says when to look for the job, and under which name it was handed over."""
    job, relay, claim = await _claimed(stage)
    before = await stage.now()
    assert await relay.hand_over(job, claim) == [claim[0]]
    row = await stage.job(job)
    assert await stage.triggers(job) == []
    assert row["handed_over"] == claim[0]
    assert row["rescue_at"] is not None
    assert before + MINUTE <= row["rescue_at"] <= await stage.now() + MINUTE


async def scheduled_job_is_looked_for_after_its_time(stage: Stage) -> None:
    """The first look comes after the time that the job is scheduled for, not after the hand-over."""
    job = await stage.enqueue(run_at=await stage.now() + DAY)
    relay = await stage.actor()
    (claim,) = await relay.claim_triggers(ahead=MONTH)
    await relay.hand_over(job, claim)
    row = await stage.job(job)
    assert row["rescue_at"] == row["run_at"] + MINUTE


async def rescued_job_is_looked_for_later_each_time(stage: Stage) -> None:
    """The third look comes after four times as long as the first, counted from the hand-over."""
    job, relay, claim = await _claimed(stage)
    await relay.run("update outboxkit.jobs set rescues = 2")
    await relay.hand_over(job, claim)
    assert (await stage.job(job))["rescue_at"] > await stage.now() + 3.9 * MINUTE


async def late_hand_over_leaves_a_later_claims_row(stage: Stage) -> None:
    """A relay whose lease ran out settles nothing once another has claimed the trigger."""
    job, slow, old = await _claimed(stage)
    quick = await stage.actor()
    await stage.lapse()
    (new,) = await quick.claim_triggers()
    assert await slow.hand_over(job, old) == []
    assert (await stage.job(job))["rescue_at"] is None
    assert await quick.hand_over(job, new) == [new[0]]


async def running_job_is_not_looked_after(stage: Stage) -> None:
    """A task that was run before its trigger was settled: the row goes, and the lease alone looks after the job."""
    job, relay, claim = await _claimed(stage)
    worker, keeper = await stage.actors(2)
    await keeper.begin()
    await keeper.run(LOCK_TRIGGERS, job)  # so that the claim passes over the row and leaves it
    await worker.claim(job)
    await keeper.rollback()
    assert await relay.hand_over(job, claim) == [claim[0]]
    row = await stage.job(job)
    assert (row["state"], row["rescue_at"], row["handed_over"]) == ("running", None, None)


async def hand_over_does_not_wait_for_a_claim(stage: Stage) -> None:
    """A job that is just being claimed keeps its row: if the claim is rolled back, the trigger comes due again.

    Settling the row alone would leave a job that nobody triggers, and nobody looks after.
    """
    job, relay, claim = await _claimed(stage)
    worker, keeper = await stage.actors(2)
    await keeper.begin()
    await keeper.run(LOCK_TRIGGERS, job)
    await worker.begin()
    await worker.claim(job)
    await keeper.rollback()
    assert await stage.at_once(relay, relay.hand_over(job, claim)) == []
    await worker.rollback()
    assert [row["id"] for row in await stage.triggers(job)] == [claim[0]]
    assert await relay.hand_over(job, claim) == [claim[0]]


async def hand_over_does_not_wait_for_a_settlement(stage: Stage) -> None:
    """A row that somebody else is settling is left."""
    job, relay, claim = await _claimed(stage)
    other = await stage.actor()
    await other.begin()
    await other.retry(claim)
    assert await stage.at_once(relay, relay.hand_over(job, claim)) == []
    await other.rollback()


async def hand_over_is_not_stopped_by_a_child(stage: Stage) -> None:
    """While a row with a foreign key to the job is being inserted, the hand-over is settled all the same."""
    job, relay, claim = await _claimed(stage)
    await stage.children()
    application = await stage.actor()
    await application.begin()
    await application.run("insert into child values (%s)", job)
    assert await stage.at_once(relay, relay.hand_over(job, claim)) == [claim[0]]
    await application.commit()


async def row_of_a_job_that_is_gone_is_settled(stage: Stage) -> None:
    """Its row must not be handed over again and again."""
    job, relay, claim = await _claimed(stage)
    await relay.run("delete from outboxkit.jobs where id = %s", job)
    assert await relay.hand_over(job, claim) == [claim[0]]


async def time_to_look_is_counted_from_the_settlement(stage: Stage) -> None:
    """Not from the begin of a transaction or a statement that was held up."""
    job, relay, claim = await _claimed(stage)
    await relay.begin()
    await relay.run("select pg_sleep(0.05)")
    before = await stage.now()
    await relay.hand_over(job, claim)
    await relay.commit()
    assert (await stage.job(job))["rescue_at"] >= before + MINUTE


async def task_that_is_still_there_keeps_its_name(stage: Stage) -> None:
    """No task was made: the next question is for the earlier one again."""
    job, relay, claim = await _claimed(stage)
    await relay.run("update outboxkit.jobs set handed_over = -7, rescues = 1")
    await relay.hand_over(job, claim, found=True)
    row = await stage.job(job)
    assert (row["handed_over"], row["rescues"]) == (-7, 1)


async def _rescued(relay: Actor, job: UUID, *, found: bool, waiting: bool = False) -> None:
    """The job is swept, and its new trigger is settled."""
    await relay.run("update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second'")
    assert await relay.sweep_stranded() == ["queued"]
    (claim,) = await relay.claim_triggers()
    await relay.hand_over(job, claim, found=found, waiting=waiting)


async def task_that_was_never_dispatched_is_not_held_against_its_job(stage: Stage) -> None:
    """However often it is found: a paused queue, or a long backlog, kills no job. One dispatched in vain does."""
    job, relay, claim = await _claimed(stage)
    await relay.hand_over(job, claim)
    await stage.succeeded()
    for _ in range(7):
        await _rescued(relay, job, found=True, waiting=True)
    assert (await stage.job(job))["excused"] == 7
    for _ in range(5):
        await _rescued(relay, job, found=True)
    await relay.run("update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second'")
    assert await relay.sweep_stranded() == ["failed"]


async def excuses_are_counted_anew_after_a_claim(stage: Stage) -> None:
    """A job that waited long, was run and is to be run again has used up nothing."""
    job, relay, claim = await _claimed(stage)
    await relay.hand_over(job, claim)
    await _rescued(relay, job, found=True, waiting=True)
    assert (await stage.job(job))["excused"] == 1, "once, though its task waits and its worker has done nothing"
    (lease,) = await relay.claim(job)
    assert await relay.end(lease) == "queued"
    (claim,) = await relay.claim_triggers()
    await relay.hand_over(job, claim)
    assert (await stage.job(job))["excused"] == 0


async def no_job_is_failed_while_its_worker_is_away(stage: Stage) -> None:
    """Triggered as often as you like: where no job of the queue was done since, the worker is what is missing."""
    job = await stage.stranded(rescues=50)
    sweeper = await stage.actor()
    await stage.succeeded(queue="another")
    await stage.succeeded(ago=timedelta(days=365))
    await sweeper.run(
        "insert into outboxkit.jobs (id, queue, kind, payload, state, run_at, created_at, finished_at)"
        " values (gen_random_uuid(), 'default', 'K', '{}', 'failed', now(), now(), clock_timestamp())"
    )
    assert await sweeper.sweep_stranded() == ["queued"]
    assert (await stage.letters(job), len(await stage.triggers(job))) == ([], 1)


async def worker_that_comes_back_finds_its_backlog(stage: Stage) -> None:
    """What was rescued in vain while the worker was away does not count when it is back, and has done its first job."""
    job, relay, claim = await _claimed(stage)
    await relay.hand_over(job, claim)
    for _ in range(6):
        await _rescued(relay, job, found=False)
    await stage.succeeded()
    await relay.run("update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second'")
    assert await relay.sweep_stranded() == ["queued"]
    assert await stage.letters(job) == []


async def success_counts_only_for_what_was_handed_over_before_it(stage: Stage) -> None:
    """Of two jobs at their last rescue one was handed over before the worker did something, and one after."""
    await stage.stranded(rescues=5)
    later = await stage.stranded(rescues=5)
    await stage.succeeded()
    sweeper = await stage.actor()
    # Handed over a minute ago, when the worker had done its last job two minutes ago.
    await sweeper.run("update outboxkit.jobs set rescues = 0, excused = -5 where id = %s", later)
    await sweeper.run(
        "update outboxkit.jobs set finished_at = finished_at - 2 * interval '1 minute' where state = 'succeeded'"
    )
    assert sorted(await sweeper.sweep_stranded()) == ["failed", "queued"]
    assert await stage.state(later) == "queued"


async def scheduled_trigger_is_claimed_ahead(stage: Stage) -> None:
    """For a transport that keeps a schedule: with the time that the job is due, and not before it is within range."""
    soon, later = await stage.now() + DAY, await stage.now() + 40 * DAY
    job = await stage.enqueue(run_at=soon)
    await stage.enqueue(run_at=later)
    relay = await stage.actor()
    row = only(await relay.claimed_ahead(MONTH))
    assert (row["job_id"], row["scheduled_at"], row["waited"]) == (job, soon, 0)


async def trigger_that_is_due_has_no_schedule(stage: Stage) -> None:
    """What is due goes without a time, and where nothing is claimed ahead nobody looks for one."""
    await stage.enqueue()
    relay = await stage.actor()
    row = only(await relay.claimed_ahead(MONTH))
    assert row["scheduled_at"] is None
    job = await stage.enqueue(run_at=await stage.now() + DAY)
    await relay.run("update outboxkit.outbox set due_at = clock_timestamp() where job_id = %s", job)
    row = only(await relay.claimed_ahead(None))
    assert row["scheduled_at"] is None


async def claimed_trigger_is_not_claimed_ahead(stage: Stage) -> None:
    """What another relay holds, or waits to try again, is due later for that reason, and is left."""
    job = await stage.enqueue(run_at=await stage.now() + DAY)
    first, second = await stage.actors(2)
    (claim,) = await first.claim_triggers(ahead=MONTH)
    assert await second.claimed_ahead(MONTH) == []
    await first.retry(claim, delay=60)
    assert await second.claimed_ahead(MONTH) == []
    await stage.lapse()
    row = only(await second.claimed_ahead(MONTH))
    assert row["scheduled_at"] == (await stage.job(job))["run_at"], "tried again, it keeps its time"


async def rescued_trigger_knows_its_predecessor(stage: Stage) -> None:
    """Only a rescue asks for an earlier task: a retry of the job, which has been claimed, has nothing to ask for."""
    job, relay, claim = await _claimed(stage)
    await relay.hand_over(job, claim)
    await relay.run("update outboxkit.jobs set rescue_at = clock_timestamp() - interval '1 second'")
    assert await relay.sweep_stranded() == ["queued"]
    row = only(await relay.claimed_ahead(MONTH))
    assert row["previous"] == claim[0]
    (lease,) = await relay.claim(job)
    assert await relay.end(lease) == "queued"
    row = only(await relay.claimed_ahead(MONTH))
    assert row["previous"] is None


SCENARIOS = [
    job_handed_over_is_looked_after,
    scheduled_job_is_looked_for_after_its_time,
    rescued_job_is_looked_for_later_each_time,
    late_hand_over_leaves_a_later_claims_row,
    running_job_is_not_looked_after,
    hand_over_does_not_wait_for_a_claim,
    hand_over_does_not_wait_for_a_settlement,
    hand_over_is_not_stopped_by_a_child,
    row_of_a_job_that_is_gone_is_settled,
    time_to_look_is_counted_from_the_settlement,
    task_that_is_still_there_keeps_its_name,
    task_that_was_never_dispatched_is_not_held_against_its_job,
    excuses_are_counted_anew_after_a_claim,
    no_job_is_failed_while_its_worker_is_away,
    worker_that_comes_back_finds_its_backlog,
    success_counts_only_for_what_was_handed_over_before_it,
    scheduled_trigger_is_claimed_ahead,
    trigger_that_is_due_has_no_schedule,
    claimed_trigger_is_not_claimed_ahead,
    rescued_trigger_knows_its_predecessor,
]
