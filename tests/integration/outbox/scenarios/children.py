"""A row of an application's with a foreign key to a job, just being inserted, is in nobody's way.

Its check holds the job's row FOR KEY SHARE until the application commits. FOR UPDATE would wait for that, or pass over the
job; FOR NO KEY UPDATE does neither. (For claims, see claims.py.)
"""

from uuid import UUID

from integration.outbox.actor import Actor
from integration.outbox.scenarios.endings import dead
from integration.outbox.stage import Stage


async def heartbeat_renews_a_job_whose_child_is_being_inserted(stage: Stage) -> None:
    """A handler that has written a row of its job in job.session does not lose its lease for that."""
    worker = await stage.actor()
    job, lease = await stage.running(worker)
    application = await _inserting(stage, job)
    assert await stage.at_once(worker, worker.heartbeat(lease)) == {job}
    await application.commit()


async def no_ending_waits_for_a_child(stage: Stage) -> None:
    """Completions, retries and give-backs of such a job go through at once."""
    worker = await stage.actor()
    running = [await stage.running(worker) for _ in range(4)]
    application = await _inserting(stage, *(job for job, _ in running))
    done, done_inside, retried, given = [lease for _, lease in running]
    assert await stage.at_once(worker, worker.complete(done)) == {done.id}
    assert await stage.at_once(worker, worker.complete_inside(done_inside))
    assert await stage.at_once(worker, worker.end(retried)) == "queued"
    assert await stage.at_once(worker, worker.give_back(given)) == {given.id}
    await application.commit()


async def nobody_else_waits_for_a_child(stage: Stage) -> None:
    """So do a cancel, a burial and a replay."""
    actor = await stage.actor()
    cancelled, buried = [await stage.enqueue() for _ in range(2)]
    triggers = dict(await actor.claim_triggers())
    trigger = (await stage.trigger(buried))["id"]
    replayed, letter = await dead(stage, actor)
    application = await _inserting(stage, cancelled, buried, replayed)
    assert await stage.at_once(actor, actor.cancel(cancelled)) == ("cancelled", True)
    assert await stage.at_once(actor, actor.bury(buried, (trigger, triggers[trigger]))) == (1, 1)
    assert await stage.at_once(actor, actor.replay(letter)) == [replayed]
    await application.commit()


async def expired_sweep_sees_a_job_whose_child_is_being_inserted(stage: Stage) -> None:
    """A handler that hangs with such a row written is no reason not to take its job away when the lease is over."""
    worker, sweeper = await stage.actors(2)
    job, _ = await stage.running(worker)
    await stage.expire(job)
    application = await _inserting(stage, job)
    assert await stage.at_once(sweeper, sweeper.sweep_leases()) == ["queued"]
    await application.commit()


async def stranded_sweep_sees_a_job_whose_child_is_being_inserted(stage: Stage) -> None:
    """Nor is it a reason not to re-arm one."""
    sweeper = await stage.actor()
    job = await stage.stranded()
    application = await _inserting(stage, job)
    assert await stage.at_once(sweeper, sweeper.sweep_stranded()) == ["queued"]
    await application.commit()


async def retention_leaves_a_job_whose_child_is_being_inserted(stage: Stage) -> None:
    """Retention alone asks for more, because it deletes: it passes over the job, and does not wait."""
    worker, sweeper = await stage.actors(2)
    job, lease = await stage.running(worker)
    await worker.complete(lease)
    application = await _inserting(stage, job)
    assert await stage.at_once(sweeper, sweeper.sweep_finished()) == []
    await application.rollback()
    assert await sweeper.sweep_finished() == [job]


async def _inserting(stage: Stage, *jobs: UUID) -> Actor:
    """An application that has inserted a child of each job and has not committed."""
    await stage.children()
    application = await stage.actor()
    await application.begin()
    for job in jobs:
        await application.run("insert into child (job_id) values (%s)", job)
    return application


SCENARIOS = [
    heartbeat_renews_a_job_whose_child_is_being_inserted,
    no_ending_waits_for_a_child,
    nobody_else_waits_for_a_child,
    expired_sweep_sees_a_job_whose_child_is_being_inserted,
    stranded_sweep_sees_a_job_whose_child_is_being_inserted,
    retention_leaves_a_job_whose_child_is_being_inserted,
]
