"""The application under attack: an order is written and enqueued in one transaction, and carried out by a job.

An order's kind says what its job does:

- SHIP writes a shipment through `job.session`, which must be there exactly once, and a line outside, at least once;
- NOTE writes the line alone, so that it is completed in a batch with others;
- FLAKY asks for a retry at its first attempt and then ships;
- SLOW ships after more than one lease, so that it depends on heartbeats;
- HOPELESS gives up; POISON kills its worker, every time.
"""

import asyncio
import os
import signal
from pathlib import Path

import msgspec
from litestar import post
from litestar.params import FromPath, FromQuery
from sqlalchemy import text

from chaos.points import reach
from outboxkit import Handlers, Job, Retry, enqueue
from outboxkit.handlers import Fail
from outboxkit.http import ProblemError
from outboxkit_contracts.problems import Problem, ProblemType
from outboxkit_web.sessions import RequestSession

EFFECTS = "CHAOS_EFFECTS"
LEASE = "JOB_LEASE_SECONDS"
# So many that no number of kills ends a healthy job.
MANY = 1000
TIMEOUT = 30.0

handlers = Handlers()


class Order(msgspec.Struct):
    """Which order."""

    order_id: int


def note(order_id: int) -> None:
    """The effect outside: one line, appended."""
    with Path(os.environ[EFFECTS]).open("a") as effects:
        effects.write(f"{order_id}\n")


async def shipped(order: Order, job: Job, *, seconds: float = 0.1) -> None:
    """Both effects, with a moment between the second and the completion in which to be killed."""
    await asyncio.to_thread(note, order.order_id)
    await asyncio.sleep(seconds)
    await job.session.execute(
        text("insert into chaos.shipments (order_id, job_id, attempt) values (:order, :job, :attempt)"),
        {"order": order.order_id, "job": job.id, "attempt": job.attempt},
    )
    reach("worker.in-handler")
    await asyncio.sleep(0.02)


@handlers.register("SHIP", max_attempts=MANY, timeout=TIMEOUT)
async def ship(order: Order, job: Job) -> None:
    """Ship."""
    await shipped(order, job)


@handlers.register("NOTE", max_attempts=MANY, timeout=TIMEOUT)
async def take_note(order: Order, job: Job) -> None:  # noqa: ARG001 (every handler is given its job)
    """Nothing through job.session."""
    await asyncio.to_thread(note, order.order_id)


@handlers.register("FLAKY", max_attempts=MANY, timeout=TIMEOUT)
async def flaky(order: Order, job: Job) -> None:
    """Ship at the second attempt."""
    if job.attempt == 1:
        raise Retry(after=0.1)
    await shipped(order, job)


@handlers.register("SLOW", max_attempts=MANY, timeout=TIMEOUT)
async def slow(order: Order, job: Job) -> None:
    """Ship after one lease and a half."""
    await shipped(order, job, seconds=1.5 * float(os.environ[LEASE]))


@handlers.register("HOPELESS", max_attempts=MANY, timeout=TIMEOUT)
async def hopeless(order: Order, job: Job) -> None:
    """Give up."""
    raise Fail(f"order {order.order_id} is hopeless, said attempt {job.attempt}")


@handlers.register("POISON", max_attempts=2, timeout=TIMEOUT)
async def poison(order: Order, job: Job) -> None:  # noqa: ARG001 (it gets no further)
    """Take the whole worker along."""
    os.kill(os.getpid(), signal.SIGKILL)


@post("/orders/{order_id:int}")
async def order(
    order_id: FromPath[int], session: RequestSession, kind: FromQuery[str], rollback: FromQuery[bool] = False
) -> None:
    """Writes the order and its job, then succeeds, or fails on purpose."""
    await session.execute(
        text("insert into chaos.orders (id, kind) values (:id, :kind)"), {"id": order_id, "kind": kind}
    )
    await enqueue(session, kind, Order(order_id))
    if rollback:
        raise ProblemError(Problem.of(ProblemType.CONFLICT, "rolled back on purpose"))
    reach("web.before-commit")


routes = [order]
