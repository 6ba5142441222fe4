"""Statements that lock several rows, or rows of several tables, against one another.

In the crossings somebody holds the row in the middle while two statements come from either end. Without the rule each
would hold what the other wants next; Postgres then ends one of them with 40P01.
"""

from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from integration.outbox.actor import Actor
from integration.outbox.scenarios.claims import LOCK_JOB
from integration.outbox.scenarios.deliveries import LOCK_TRIGGERS
from integration.outbox.scenarios.endings import dead
from integration.outbox.stage import Stage
from outboxkit.leases import Lease

Statement = Callable[[], Coroutine[Any, Any, Any]]
Settle = Callable[..., Coroutine[Any, Any, Any]]
Three = tuple[UUID, UUID, UUID]

SETTLEMENTS: list[Settle] = [Actor.ack, Actor.retry, Actor.give_back_triggers]


async def heartbeats_and_completions_do_not_deadlock(stage: Stage) -> None:
    """A batch of heartbeats takes what it can get in whatever order, and waits for nothing that a completion holds."""
    beating, completing = await stage.actors(2)
    completing.worker = beating.worker
    ids = await stage.three()
    low, middle, high = await _claimed(beating, ids)
    await stage.crossing(beating, completing)
    renewed, completed = await _cross(
        stage,
        (LOCK_JOB, middle.id),
        (beating, lambda: beating.heartbeat(high, middle, low)),
        (completing, lambda: completing.complete(low, middle, high)),
    )
    assert (renewed, completed) == ({low.id, high.id}, set(ids))


async def poller_and_claim_by_id_do_not_deadlock(stage: Stage) -> None:
    """A poller takes the longest due first, a claim by id the lowest id: only one of the two ever waits."""
    polling, claiming = await stage.actors(2)
    ids = await stage.three()
    await _highest_first(stage, "run_at", ids)
    polled, claimed = await _cross(
        stage,
        (LOCK_JOB, ids[1]),
        (polling, polling.claim_due),
        (claiming, lambda: claiming.claim(*ids)),
    )
    assert sorted(lease.id for lease in [*polled, *claimed]) == list(ids)


async def expired_sweep_and_completions_do_not_deadlock(stage: Stage) -> None:
    """A sweep takes the longest expired first, a batch of completions the lowest id: the sweep waits for nobody."""
    worker, sweeper = await stage.actors(2)
    ids = await stage.three()
    leases = await _claimed(worker, ids)
    await _highest_first(stage, "lease_until", ids)
    swept, completed = await _cross(
        stage,
        (LOCK_JOB, ids[1]),
        (sweeper, sweeper.sweep_leases),
        (worker, lambda: worker.complete(*leases)),
    )
    assert (swept, completed) == (["queued", "queued"], {ids[1]})


async def stranded_sweep_and_claims_do_not_deadlock(stage: Stage) -> None:
    """Nor does the sweep that re-arms: it takes the longest stranded first, and a claim by id the lowest id."""
    worker, sweeper = await stage.actors(2)
    ids = await stage.three()
    await _highest_first(stage, "rescue_at", ids)
    swept, claimed = await _cross(
        stage,
        (LOCK_JOB, ids[1]),
        (sweeper, sweeper.sweep_stranded),
        (worker, lambda: worker.claim(*ids)),
    )
    assert (swept, len(claimed)) == (["queued", "queued"], 3)


async def claims_and_settlements_do_not_deadlock(stage: Stage) -> None:
    """A claim by id deletes the triggers of its jobs while a relay settles the same ones in another order."""
    worker, relay = await stage.actors(2)
    await stage.crossing(worker, relay)
    for settle in SETTLEMENTS:
        ids = await _triggered(stage)
        await _claim_against(stage, ids, settle, relay, worker, lambda ids=ids: worker.claim(*ids))


async def polled_claims_and_settlements_do_not_deadlock(stage: Stage) -> None:
    """The same for a poller's claim."""
    worker, relay = await stage.actors(2)
    await stage.crossing(worker, relay)
    for settle in SETTLEMENTS:
        ids = await _triggered(stage)
        await _claim_against(stage, ids, settle, relay, worker, worker.claim_due)


async def _claim_against(
    stage: Stage, ids: Three, settle: Settle, relay: Actor, worker: Actor, claim: Statement
) -> None:
    triggers = sorted(await relay.claim_triggers())
    claimed, _ = await _cross(
        stage,
        (LOCK_TRIGGERS, ids[1]),
        (worker, claim),
        (relay, lambda: settle(relay, *triggers)),
    )
    assert sorted(lease.id for lease in claimed) == list(ids)


async def settlements_do_not_deadlock(stage: Stage) -> None:
    """Two batches of settlements with common triggers, as when an answer was lost and the batch is sent again."""
    first, second = await stage.actors(2)
    for settle in SETTLEMENTS:
        ids = await _triggered(stage)
        triggers = sorted(await first.claim_triggers())
        await stage.observer.run("analyze outboxkit.outbox")
        await stage.crossing(first, second)
        await _cross(
            stage,
            (LOCK_TRIGGERS, ids[1]),
            (first, lambda settle=settle, triggers=triggers: settle(first, *triggers)),
            (second, lambda settle=settle, triggers=triggers: settle(second, *reversed(triggers))),
        )
        middle = (await stage.trigger(ids[1]))["id"]
        assert await settle(second, *(trigger for trigger in triggers if trigger[0] == middle)) == [middle]
        await stage.observer.run("delete from outboxkit.outbox")


async def triggers_claim_and_late_settlements_do_not_deadlock(stage: Stage) -> None:
    """A relay claims the longest due first while another, whose lease has run out, settles the same triggers."""
    slow, quick = await stage.actors(2)
    for settle in SETTLEMENTS:
        ids = await _triggered(stage)
        triggers = sorted(await slow.claim_triggers())
        await stage.observer.run("update outboxkit.outbox set due_at = clock_timestamp() - id * interval '1 minute'")
        claimed, _ = await _cross(
            stage,
            (LOCK_TRIGGERS, ids[1]),
            (quick, quick.claim_triggers),
            (slow, lambda settle=settle, triggers=triggers: settle(slow, *triggers)),
        )
        assert len(claimed) >= 2
        await stage.observer.run("delete from outboxkit.outbox")


async def claim_holds_no_trigger_while_it_waits_for_a_job(stage: Stage) -> None:
    """Jobs come before outbox: a claim of several jobs has all of them before it touches the first trigger."""
    free, wanted = sorted([await stage.enqueue() for _ in range(2)])
    worker = await stage.actor()
    claimed = await _waiting_without(
        stage, LOCK_TRIGGERS, [free, wanted], wanted, worker, lambda: worker.claim(free, wanted)
    )
    assert len(claimed) == 2


async def cancel_holds_no_trigger_while_it_waits_for_its_job(stage: Stage) -> None:
    """So with a cancel."""
    job = await stage.enqueue()
    person = await stage.actor()
    assert await _waiting_without(stage, LOCK_TRIGGERS, [job], job, person, lambda: person.cancel(job)) == (
        "cancelled",
        True,
    )


async def replay_holds_no_letter_while_it_waits_for_its_job(stage: Stage) -> None:
    """Jobs come before dead letters too."""
    person = await stage.actor()
    job, letter = await dead(stage, person)
    lock = "select id from outboxkit.dead_letters where job_id = %s for update"
    assert await _waiting_without(stage, lock, [job], job, person, lambda: person.replay(letter)) == [job]


async def _waiting_without(
    stage: Stage, lock: str, free: list[UUID], wanted: UUID, actor: Actor, statement: Statement
) -> Any:
    """Let the statement wait for the job `wanted`; meanwhile the rows that `lock` finds for each of `free` are free."""
    other, looker = await stage.actors(2)
    await other.begin()
    await other.run(LOCK_JOB, wanted)
    step = stage.start(actor, statement())
    await stage.blocked(step)
    for job in free:
        assert len(await looker.run(f"{lock} nowait", job)) == 1
    await other.rollback()
    return await stage.outcome(step)


async def _cross(stage: Stage, held: tuple[str, UUID], *sides: tuple[Actor, Statement]) -> list[Any]:
    """Start the statements one after the other while somebody holds the row in the middle; returns what they return."""
    other = await stage.actor()
    await other.begin()
    await other.run(*held)
    steps = []
    for actor, statement in sides:
        steps.append(stage.start(actor, statement()))
        await stage.at_rest(steps[-1])
    await other.rollback()
    return [await stage.outcome(step) for step in steps]


async def _claimed(worker: Actor, ids: Three) -> list[Lease]:
    by_id = {lease.id: lease for lease in await worker.claim(*ids)}
    return [by_id[job] for job in ids]


async def _triggered(stage: Stage) -> Three:
    """Three jobs in ascending id whose triggers were written in descending order."""
    ids = await stage.three()
    for job in reversed(ids):
        await stage.observer.run(
            "insert into outboxkit.outbox (job_id, queue, kind, due_at, created_at)"
            " values (%s, 'default', 'K', clock_timestamp(), clock_timestamp())",
            job,
        )
    return ids


async def _highest_first(stage: Stage, column: str, ids: Three) -> None:
    """Put the jobs' times into the past, the highest id's farthest."""
    for minutes, job in enumerate(ids, start=1):
        await stage.observer.run(
            f"update outboxkit.jobs set {column} = clock_timestamp() - %s * interval '1 minute' where id = %s",  # noqa: S608 (ours)
            minutes,
            job,
        )


SCENARIOS = [
    heartbeats_and_completions_do_not_deadlock,
    poller_and_claim_by_id_do_not_deadlock,
    expired_sweep_and_completions_do_not_deadlock,
    stranded_sweep_and_claims_do_not_deadlock,
    claims_and_settlements_do_not_deadlock,
    polled_claims_and_settlements_do_not_deadlock,
    settlements_do_not_deadlock,
    triggers_claim_and_late_settlements_do_not_deadlock,
    claim_holds_no_trigger_while_it_waits_for_a_job,
    cancel_holds_no_trigger_while_it_waits_for_its_job,
    replay_holds_no_letter_while_it_waits_for_its_job,
]
