"""Claims against one another, and against whatever else holds a row."""

from datetime import timedelta

from integration.outbox.actor import MINUTE, handlers
from integration.outbox.stage import Stage
from outboxkit import leases
from outboxkit_worker import replies

LOCK_JOB = "select id from outboxkit.jobs where id = %s for no key update"


async def claim_by_id_waits_for_a_locked_row(stage: Stage) -> None:
    """A claim by id waits for whoever writes the job, and gets it when that is rolled back: it is never passed over."""
    job = await stage.enqueue()
    other, worker = await stage.actors(2)
    await other.begin()
    await other.run(LOCK_JOB, job)
    claim = stage.start(worker, worker.claim(job))
    await stage.blocked(claim)
    await other.rollback()
    assert [lease.id for lease in await stage.outcome(claim)] == [job]


async def claim_by_id_looks_again_after_its_wait(stage: Stage) -> None:
    """Of two claims of one job the second waits, sees that the job runs, and gets nothing."""
    job = await stage.enqueue()
    first, second = await stage.actors(2)
    await first.begin()
    assert len(await first.claim(job)) == 1
    claim = stage.start(second, second.claim(job))
    await stage.blocked(claim)
    await first.commit()
    assert await stage.outcome(claim) == []
    row = await stage.job(job)
    assert (row["attempt"], row["leased_by"]) == (1, first.worker)


async def claim_by_id_compares_the_due_time_again_after_its_wait(stage: Stage) -> None:
    """A job that is retried for later while a claim waits for it is not claimed before its time."""
    job = await stage.enqueue()
    first, second = await stage.actors(2)
    await first.begin()
    (lease,) = await first.claim(job)
    await first.end(lease, delay=60)
    claim = stage.start(second, second.claim(job))
    await stage.blocked(claim)
    await first.commit()
    assert await stage.outcome(claim) == []


async def claim_by_id_compares_with_the_clock_after_its_wait(stage: Stage) -> None:
    """What has come due while a claim waited is claimed: the clock is read at the end of the wait, not at its start."""
    job = await stage.enqueue()
    first, second = await stage.actors(2)
    await first.begin()
    (lease,) = await first.claim(job)
    await first.end(lease, delay=2.1)  # claims come up to two seconds early
    claim = stage.start(second, second.claim(job))
    await stage.blocked(claim)
    await first.run("select pg_sleep_until(run_at - interval '2 seconds') from outboxkit.jobs where id = %s", job)
    await first.commit()
    assert [lease.id for lease in await stage.outcome(claim)] == [job]


async def lease_starts_when_the_row_is_had(stage: Stage) -> None:
    """A claim that waited holds its full lease from the end of the wait."""
    job = await stage.enqueue()
    other, worker = await stage.actors(2)
    await other.begin()
    await other.run(LOCK_JOB, job)
    claim = stage.start(worker, worker.claim(job))
    await stage.blocked(claim)
    released = await stage.now()
    await other.rollback()
    await stage.outcome(claim)
    assert (await stage.job(job))["lease_until"] >= released + MINUTE


async def polled_lease_starts_when_the_row_is_had(stage: Stage) -> None:
    """A poller's claim that was held up on its way holds its full lease all the same."""
    job = await stage.enqueue()
    worker = await stage.actor()
    async with stage.held(worker, "claim_due", worker.claim_due()) as claim:
        released = await stage.now()
    await stage.outcome(claim)
    assert (await stage.job(job))["lease_until"] >= released + MINUTE


async def claim_that_got_nothing_is_made_again(stage: Stage) -> None:
    """A claim that comes while a retry is being written gets no row, and does not even wait.

    That is no reason to acknowledge its trigger: read afresh, the job is queued and due, so it is claimed again.
    """
    worker, duplicate = await stage.actors(2)
    job, lease = await stage.running(worker)
    await worker.begin()
    await worker.end(lease)
    assert await stage.at_once(duplicate, duplicate.claim(job)) == []
    await worker.commit()
    found = (await leases.read_states(duplicate.connection, [job]))[job]
    assert replies.from_state(job, found, handlers) is None
    assert [again.attempt for again in await duplicate.claim(job)] == [2]


async def claims_with_crossing_ids_do_not_deadlock(stage: Stage) -> None:
    """Two claims with common ids lock them in ascending id whatever their plans: one gets all, the other none."""
    low, middle, high = await stage.three()
    other, first, second = await stage.actors(3)
    await stage.crossing(first, second)
    await other.begin()
    await other.run(LOCK_JOB, middle)
    claims = []
    for actor in (first, second):
        claims.append(stage.start(actor, actor.claim(low, middle, high)))
        await stage.blocked(claims[-1])
    await other.rollback()
    assert sorted([len(await stage.outcome(claim)) for claim in claims]) == [0, 3]


async def claim_by_id_does_not_wait_for_a_settlement(stage: Stage) -> None:
    """A claim leaves an outbox row that a relay is settling, and does not wait for it: that would deadlock."""
    job = await stage.enqueue()
    relay, worker = await stage.actors(2)
    (trigger,) = await relay.claim_triggers()
    await relay.begin()
    await relay.retry(trigger)
    assert len(await stage.at_once(worker, worker.claim(job))) == 1
    await relay.commit()


async def polled_claim_does_not_wait_for_a_settlement(stage: Stage) -> None:
    """The same for a poller's claim."""
    await stage.enqueue()
    relay, worker = await stage.actors(2)
    (trigger,) = await relay.claim_triggers()
    await relay.begin()
    await relay.retry(trigger)
    assert len(await stage.at_once(worker, worker.claim_due())) == 1
    await relay.commit()


async def claim_deletes_every_trigger_of_its_job(stage: Stage) -> None:
    """A claim takes the job's outbox rows along, so that in db mode the outbox does not grow."""
    by_id, polled = await stage.enqueue(), await stage.enqueue()
    worker = await stage.actor()
    await worker.claim(by_id)
    assert (await stage.triggers(by_id), len(await stage.triggers(polled))) == ([], 1)
    await worker.claim_due()
    assert await stage.triggers(polled) == []


async def pollers_do_not_wait_for_each_other(stage: Stage) -> None:
    """A second poller passes over what the first is taking and takes the next."""
    jobs = [await stage.enqueue() for _ in range(2)]
    first, second = await stage.actors(2)
    await first.begin()
    (taken,) = await first.claim_due(slots=1)
    (next_one,) = await stage.at_once(second, second.claim_due(slots=1))
    assert [taken.id, next_one.id] == jobs
    await first.commit()


async def poller_looks_again_at_what_it_locks(stage: Stage) -> None:
    """A poller whose snapshot is older than another's claim does not claim the job a second time."""
    job = await stage.enqueue()
    first, second = await stage.actors(2)
    async with stage.held(second, "claim_due", second.claim_due()) as claim:
        await first.claim(job)
    assert await stage.outcome(claim) == []
    assert (await stage.job(job))["leased_by"] == first.worker


async def poller_sees_a_job_whose_child_is_being_inserted(stage: Stage) -> None:
    """A row with a foreign key to the job, not yet committed, does not hide the job from pollers."""
    job = await stage.enqueue()
    application, worker = await stage.actors(2)
    await stage.children()
    await application.begin()
    await application.run("insert into child (job_id) values (%s)", job)
    assert len(await stage.at_once(worker, worker.claim_due())) == 1
    await application.commit()


async def claim_by_id_does_not_wait_for_a_child(stage: Stage) -> None:
    """Nor does it make a claim by id wait."""
    job = await stage.enqueue()
    application, worker = await stage.actors(2)
    await stage.children()
    await application.begin()
    await application.run("insert into child (job_id) values (%s)", job)
    assert len(await stage.at_once(worker, worker.claim(job))) == 1
    await application.commit()


async def claim_forgets_the_rescue_before_it(stage: Stage) -> None:
    """A claimed job is no longer waiting for its transport: should it be queued again, its rescues start anew."""
    by_id, polled = await stage.enqueue(), await stage.enqueue()
    worker = await stage.actor()
    await worker.run("update outboxkit.jobs set rescue_at = now() - interval '1 hour', rescues = 3")
    await worker.claim(by_id)
    await worker.claim_due()
    for job in (by_id, polled):
        row = await stage.job(job)
        assert (row["rescue_at"], row["rescues"]) == (None, 0)


async def claim_raises_the_attempt_and_settles_its_limit(stage: Stage) -> None:
    """Every claim counts, and the first writes the handler's limit, unless the producer gave one."""
    plain, limited = await stage.enqueue(), await stage.enqueue(max_attempts=7)
    worker = await stage.actor()
    by_id = {lease.id: lease for lease in await worker.claim(plain, limited)}
    assert [(by_id[job].attempt, by_id[job].max_attempts) for job in (plain, limited)] == [(1, 3), (1, 7)]
    await worker.end(by_id[plain])
    (again,) = await worker.claim_due()
    assert (again.attempt, again.max_attempts) == (2, 3)


async def claim_leaves_kinds_it_has_no_handler_for(stage: Stage) -> None:
    """A job of a kind that this worker does not know stays queued for one that does."""
    job = await stage.enqueue("NEWER")
    worker = await stage.actor()
    assert await worker.claim(job) == []
    assert await worker.claim_due() == []
    assert await stage.state(job) == "queued"


async def claim_leaves_what_is_not_due(stage: Stage) -> None:
    """A trigger that comes too early gets no lease, and a poller does not see the job."""
    job = await stage.enqueue(run_at=await stage.now() + timedelta(seconds=60))
    worker = await stage.actor()
    assert await worker.claim(job) == []
    assert await worker.claim_due() == []


SCENARIOS = [
    claim_by_id_waits_for_a_locked_row,
    claim_by_id_looks_again_after_its_wait,
    claim_by_id_compares_the_due_time_again_after_its_wait,
    claim_by_id_compares_with_the_clock_after_its_wait,
    lease_starts_when_the_row_is_had,
    polled_lease_starts_when_the_row_is_had,
    claim_that_got_nothing_is_made_again,
    claims_with_crossing_ids_do_not_deadlock,
    claim_by_id_does_not_wait_for_a_settlement,
    polled_claim_does_not_wait_for_a_settlement,
    claim_deletes_every_trigger_of_its_job,
    pollers_do_not_wait_for_each_other,
    poller_looks_again_at_what_it_locks,
    poller_sees_a_job_whose_child_is_being_inserted,
    claim_by_id_does_not_wait_for_a_child,
    claim_forgets_the_rescue_before_it,
    claim_raises_the_attempt_and_settles_its_limit,
    claim_leaves_kinds_it_has_no_handler_for,
    claim_leaves_what_is_not_due,
]
