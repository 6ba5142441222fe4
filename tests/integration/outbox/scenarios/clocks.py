"""Times are those of the writing, not of the beginning: clock_timestamp(), never now().

now() stands still from the beginning of a transaction, a single statement's too, however long it waits. Here every
statement is run late in a transaction. (Claims that waited for a row are in claims.py and deliveries.py.)
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

from integration.outbox.actor import MINUTE, Actor
from integration.outbox.scenarios.endings import dead
from integration.outbox.stage import Stage


async def heartbeats_lease_is_as_long_as_it_says(stage: Stage) -> None:
    """A heartbeat that comes late extends the lease from then."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    async with _late(stage, worker) as late:
        await worker.heartbeat(lease)
    assert (await stage.job(job))["lease_until"] >= late + MINUTE


async def retry_waits_as_long_as_it_says(stage: Stage) -> None:
    """A retry's delay, of the job and of its trigger, begins when the failure is recorded."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    async with _late(stage, worker) as late:
        await worker.end(lease, delay=60)
    await _due(stage, job, late + MINUTE)


async def retry_that_waited_for_its_job_waits_as_long_as_it_says(stage: Stage) -> None:
    """A retry's delay begins when the row is had, also when whoever held it wrote nothing."""
    worker, holder = await stage.actors(2)
    job, lease = await stage.running(worker)
    await holder.begin()
    await holder.run("select from outboxkit.jobs for no key update")
    end = stage.start(worker, worker.end(lease, delay=60))
    await stage.blocked(end)
    late = await stage.now()
    await holder.rollback()
    assert await stage.outcome(end) == "queued"
    await _due(stage, job, late + MINUTE)


async def triggers_retry_waits_as_long_as_it_says(stage: Stage) -> None:
    """So does a delivery's."""
    job = await stage.enqueue()
    relay = await stage.actor()
    (trigger,) = await relay.claim_triggers()
    async with _late(stage, relay) as late:
        await relay.retry(trigger, delay=60)
    assert (await stage.trigger(job))["due_at"] >= late + MINUTE


async def given_back_job_is_due_from_then(stage: Stage) -> None:
    """A job that was given back is due from that time on, and so is its trigger."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    async with _late(stage, worker) as late:
        await worker.give_back(lease)
    await _due(stage, job, late)


async def given_back_trigger_is_due_from_then(stage: Stage) -> None:
    """The same for a trigger: it does not go before those that came due while it was claimed."""
    job = await stage.enqueue()
    relay = await stage.actor()
    (trigger,) = await relay.claim_triggers()
    async with _late(stage, relay) as late:
        await relay.give_back_triggers(trigger)
    assert (await stage.trigger(job))["due_at"] >= late


async def swept_job_is_due_from_then(stage: Stage) -> None:
    """The same for a job whose lease ran out."""
    worker = await stage.actor()
    job, _ = await stage.running(worker)
    await stage.expire(job)
    async with _late(stage, worker) as late:
        assert await worker.sweep_leases() == ["queued"]
    await _due(stage, job, late)


async def rescue_leaves_the_transport_its_time(stage: Stage) -> None:
    """The time in which a transport must bring a re-armed job begins when it is re-armed."""
    job = await stage.stranded()
    sweeper = await stage.actor()
    async with _late(stage, sweeper) as late:
        assert await sweeper.sweep_stranded() == ["queued"]
    assert (await stage.job(job))["rescue_at"] >= late + 2 * MINUTE
    assert (await stage.trigger(job))["due_at"] >= late


async def replayed_job_is_due_from_then(stage: Stage) -> None:
    """A replayed job is due when it is replayed."""
    person = await stage.actor()
    job, letter = await dead(stage, person)
    async with _late(stage, person) as late:
        await person.replay(letter)
    await _due(stage, job, late)


async def job_is_due_when_it_is_enqueued(stage: Stage) -> None:
    """A job is due and made when it is enqueued, however long the caller's transaction has been open."""
    producer = await stage.actor()
    async with _late(stage, producer) as late:
        rows = await producer.run("select outboxkit.enqueue_job('K') as id")
        rows += await producer.run("select outboxkit.enqueue_job('K', unique_key => 'key') as id")
    for row in rows:
        await _due(stage, row["id"], late)
        assert (await stage.job(row["id"]))["created_at"] >= late


async def jobs_are_due_when_they_are_enqueued(stage: Stage) -> None:
    """So are many at once."""
    producer = await stage.actor()
    async with _late(stage, producer) as late:
        rows = await producer.run("""select outboxkit.enqueue_jobs('[{"kind": "K"}]') as id""")
    await _due(stage, rows[0]["id"], late)


@asynccontextmanager
async def _late(stage: Stage, actor: Actor) -> AsyncIterator[datetime]:
    """A transaction that has begun before the time it yields."""
    await actor.begin()
    late: datetime = await stage.now()
    yield late
    await actor.commit()


async def _due(stage: Stage, job: UUID, earliest: datetime) -> None:
    """Check that the job and its trigger are due at one time, not before `earliest`, and not much later."""
    due = (await stage.job(job))["run_at"]
    assert earliest <= due < earliest + timedelta(seconds=30)
    assert (await stage.trigger(job))["due_at"] == due


SCENARIOS = [
    heartbeats_lease_is_as_long_as_it_says,
    retry_waits_as_long_as_it_says,
    retry_that_waited_for_its_job_waits_as_long_as_it_says,
    triggers_retry_waits_as_long_as_it_says,
    given_back_job_is_due_from_then,
    given_back_trigger_is_due_from_then,
    swept_job_is_due_from_then,
    rescue_leaves_the_transport_its_time,
    replayed_job_is_due_from_then,
    job_is_due_when_it_is_enqueued,
    jobs_are_due_when_they_are_enqueued,
]
