"""The application under attack: an order is written and enqueued in one transaction, and shipped by a job.

Shipping has two effects: a row through `job.session`, which must be there exactly once, and a line in a file outside, which
must be there at least once.
"""

import asyncio
import os
from pathlib import Path

import msgspec
from litestar import post
from litestar.params import FromPath, FromQuery
from sqlalchemy import text

from outboxkit import Handlers, Job, enqueue
from outboxkit.http import ProblemError
from outboxkit_contracts.problems import Problem, ProblemType
from outboxkit_web.sessions import RequestSession

SCHEMA = """
create schema chaos;
create table chaos.orders (id bigint primary key);
create table chaos.shipments (
    id bigint generated always as identity, order_id bigint not null, job_id uuid not null, attempt integer not null
);
"""

handlers = Handlers()


class Ship(msgspec.Struct):
    """Which order."""

    order_id: int


def note(order_id: int, attempt: int) -> None:
    """The effect outside: one line, appended."""
    with Path(os.environ["CHAOS_EFFECTS"]).open("a") as effects:
        effects.write(f"{order_id} {attempt}\n")


@handlers.register("SHIP", max_attempts=100, timeout=20)
async def ship(payload: Ship, job: Job) -> None:
    """Both effects, with a moment between them in which to be killed."""
    await asyncio.to_thread(note, payload.order_id, job.attempt)
    values = {"order": payload.order_id, "job": job.id, "attempt": job.attempt}
    await job.session.execute(
        text("insert into chaos.shipments (order_id, job_id, attempt) values (:order, :job, :attempt)"), values
    )
    await asyncio.sleep(0.15)


@post("/orders/{order_id:int}")
async def order(order_id: FromPath[int], session: RequestSession, rollback: FromQuery[bool] = False) -> None:
    """Writes the order and its job, then succeeds, or fails on purpose."""
    await session.execute(text("insert into chaos.orders (id) values (:id)"), {"id": order_id})
    await enqueue(session, "SHIP", Ship(order_id))
    if rollback:
        raise ProblemError(Problem.of(ProblemType.CONFLICT, "rolled back on purpose"))


routes = [order]
