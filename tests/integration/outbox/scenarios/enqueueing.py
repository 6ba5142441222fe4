"""unique_key under concurrency: the function in SQL, which every producer goes through."""

import json
from uuid import UUID

import pytest
from psycopg.errors import SerializationFailure

from integration.outbox.actor import Actor
from integration.outbox.stage import GATE, Stage


async def _enqueue(actor: Actor, key: str) -> UUID:
    rows = await actor.run("select outboxkit.enqueue_job('K', unique_key => %s) as id", key)
    made: UUID = rows[0]["id"]
    return made


async def _enqueue_all(actor: Actor, *keys: str) -> list[UUID]:
    jobs = json.dumps([{"kind": "K", "unique_key": key} for key in keys])
    rows = await actor.run("select outboxkit.enqueue_jobs(%s::jsonb) as id", jobs)
    return [row["id"] for row in rows]


async def _count(stage: Stage) -> tuple[int, int]:
    rows = await stage.observer.run(
        "select (select count(*) from outboxkit.jobs) as jobs, (select count(*) from outboxkit.outbox) as triggers"
    )
    return rows[0]["jobs"], rows[0]["triggers"]


async def same_key_at_once_is_one_job(stage: Stage) -> None:
    """Of two producers of one key the second waits for the first, and then both have the same id of one job."""
    first, second = await stage.actors(2)
    await first.begin()
    made = await _enqueue(first, "key")
    late = stage.start(second, _enqueue(second, "key"))
    await stage.blocked(late)
    await first.commit()
    assert await stage.outcome(late) == made
    assert await _count(stage) == (1, 1)


async def key_of_a_rolled_back_job_is_free(stage: Stage) -> None:
    """When the first is rolled back, the second's job is a new one, with its trigger."""
    first, second = await stage.actors(2)
    await first.begin()
    gone = await _enqueue(first, "key")
    late = stage.start(second, _enqueue(second, "key"))
    await stage.blocked(late)
    await first.rollback()
    made = await stage.outcome(late)
    assert made != gone
    assert await stage.state(made) == "queued"
    assert await _count(stage) == (1, 1)


async def key_is_kept_within_one_transaction(stage: Stage) -> None:
    """A second enqueue of a key in the same transaction is the same job, also when the first has long ended."""
    producer = await stage.actor()
    await producer.begin()
    made = await _enqueue(producer, "key")
    assert await _enqueue(producer, "key") == made
    await producer.commit()
    await producer.run("update outboxkit.jobs set state = 'succeeded', finished_at = now()")
    assert await _enqueue(producer, "key") == made
    assert await _count(stage) == (1, 1)


async def key_belongs_to_its_kind(stage: Stage) -> None:
    """The same key under another kind is another job."""
    kinds = ("A", "B")
    made = [await stage.enqueue(kind, unique_key="key") for kind in kinds]
    assert await _count(stage) == (2, 2)
    assert [await stage.enqueue(kind, unique_key="key") for kind in kinds] == made


async def key_whose_holder_is_retired_meanwhile_is_free(stage: Stage) -> None:
    """A producer that met the key's holder, and finds it deleted when it looks for its id, enqueues a new job."""
    first, second, keeper = await stage.actors(3)
    gone = await _enqueue(first, "key")
    gate = f"perform pg_advisory_xact_lock_shared({GATE}); "
    await stage.rewrite_function("enqueue_job", r"(?=select j\.id into job)", gate)
    await keeper.run(f"select pg_advisory_lock({GATE})")
    late = stage.start(second, _enqueue(second, "key"))
    await stage.blocked(late)
    await first.run("delete from outboxkit.outbox")
    await first.run("delete from outboxkit.jobs")
    await keeper.run(f"select pg_advisory_unlock({GATE})")
    made = await stage.outcome(late)
    assert made not in {gone, None}
    assert await _count(stage) == (1, 1)


async def key_whose_holder_is_being_retired(stage: Stage) -> None:
    """A producer that meets retention on its key's holder waits: the holder if it stays, else a new job, is the answer."""
    producer, sweeper = await stage.actors(2)
    held = await _enqueue(producer, "key")
    (lease,) = await producer.claim(held)
    await producer.complete(lease)
    made = {}
    for end in (Actor.rollback, Actor.commit):
        await sweeper.begin()
        assert await sweeper.sweep_finished() == [held]
        late = stage.start(producer, _enqueue(producer, "key"))
        await stage.blocked(late)
        await end(sweeper)
        made[end] = await stage.outcome(late)
    assert made[Actor.rollback] == held
    assert made[Actor.commit] != held
    assert await stage.state(made[Actor.commit]) == "queued"
    assert await _count(stage) == (1, 1)


async def serializable_producer_is_asked_to_try_again(stage: Stage) -> None:
    """A SERIALIZABLE producer that waited for another's job of its key gets 40001, and with its second try that job's id."""
    first, second = await stage.actors(2)
    await first.begin()
    made = await _enqueue(first, "key")
    await second.begin("serializable")
    own = await _enqueue(second, "own")
    late = stage.start(second, _enqueue(second, "key"))
    await stage.blocked(late)
    await first.commit()
    with pytest.raises(SerializationFailure):
        await stage.outcome(late)
    await second.rollback()
    await second.begin("serializable")
    assert await _enqueue(second, "own") != own
    assert await _enqueue(second, "key") == made
    await second.commit()
    assert await _count(stage) == (2, 2)


async def crossing_keys_do_not_deadlock(stage: Stage) -> None:
    """Two callers with the same keys in opposite order: one waits for the other, and both get the same jobs."""
    other, first, second = await stage.actors(3)
    await other.begin()
    middle = await _enqueue(other, "b")
    steps = [stage.start(first, _enqueue_all(first, "a", "b", "c"))]
    await stage.blocked(steps[0])
    steps.append(stage.start(second, _enqueue_all(second, "c", "b", "a")))
    await stage.blocked(steps[1])
    await other.commit()
    one, two = [await stage.outcome(step) for step in steps]
    assert one == two[::-1]
    assert one[1] == middle
    assert await _count(stage) == (3, 3)


async def ids_come_back_in_the_callers_order(stage: Stage) -> None:
    """Whatever the order in which keys are taken, the ids are in the order of the jobs."""
    producer = await stage.actor()
    keys = ["b", "a", "c", "a"]
    made = await _enqueue_all(producer, *keys)
    rows = await producer.run("select id, unique_key from outboxkit.jobs")
    by_id = {row["id"]: row["unique_key"] for row in rows}
    assert [by_id[job] for job in made] == keys


async def rolled_back_job_leaves_no_trigger(stage: Stage) -> None:
    """A job and its trigger are one transaction's: both, or none (G1)."""
    producer = await stage.actor()
    await producer.begin()
    await producer.run("select outboxkit.enqueue_job('K')")
    await producer.run("savepoint s")
    await _enqueue(producer, "key")
    await _enqueue_all(producer, "x", "y")
    await producer.run("rollback to s")
    await producer.commit()
    assert await _count(stage) == (1, 1)


SCENARIOS = [
    same_key_at_once_is_one_job,
    key_of_a_rolled_back_job_is_free,
    key_is_kept_within_one_transaction,
    key_belongs_to_its_kind,
    key_whose_holder_is_retired_meanwhile_is_free,
    key_whose_holder_is_being_retired,
    serializable_producer_is_asked_to_try_again,
    crossing_keys_do_not_deadlock,
    ids_come_back_in_the_callers_order,
    rolled_back_job_leaves_no_trigger,
]
