"""Holds what the database says happened against what the producers were told. An invariant is a promise, or a part."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg

# What a kind's job comes to when nothing is broken: its state, and the reason of its dead letter.
ENDS = {"HOPELESS": ("failed", "handler-failed"), "POISON": ("failed", "lease-expired")}
WITHOUT_SESSION = {"NOTE", "HOPELESS", "POISON"}
TERMINAL = {"succeeded", "failed", "cancelled"}
# The kit stores the last twenty failures of a job.
HISTORY = 20
# Dead letters that a relay believes in a row before it takes the worker for the one at fault.
BELIEVED = 4
RELAYS = 2


class Job(NamedTuple):
    """A job as it stands at the end."""

    id: UUID
    order_id: int
    kind: str
    state: str
    attempt: int
    created_at: datetime
    finished_at: datetime | None


class Change(NamedTuple):
    """One line of chaos.job_history."""

    at: datetime
    who: str
    job_id: UUID
    old_state: str | None
    state: str
    old_attempt: int | None
    attempt: int
    old_lease: datetime | None
    given_back: bool
    old_failures: int
    failures: int
    reason: str | None


class Settling(NamedTuple):
    """One line of chaos.trigger_history."""

    who: str
    outbox_id: int
    job_id: UUID
    what: str


class Letter(NamedTuple):
    """One dead letter."""

    job_id: UUID
    stage: str
    reason: str
    replayed: bool


class Evidence(NamedTuple):
    """Everything that is looked at."""

    acknowledged: frozenset[int]
    rolled_back: frozenset[int]
    refusing_faults: int
    """How often the workers answered 400 to everything."""
    orders: dict[int, str]
    jobs: list[Job]
    shipments: list[tuple[int, UUID, int]]
    letters: list[Letter]
    changes: list[Change]
    settlings: list[Settling]
    outside: frozenset[int]
    outbox: int


def gathered(
    url: str, effects: Path, *, acknowledged: Iterable[int], rolled_back: Iterable[int], refusing_faults: int
) -> Evidence:
    """Read it all."""
    with psycopg.connect(url) as connection:

        def rows(statement: str) -> list[tuple[object, ...]]:
            return connection.execute(statement.encode()).fetchall()

        def records(kind: Callable[..., object], table: str) -> list[object]:
            names = ", ".join(kind._fields)  # type: ignore[attr-defined] # a NamedTuple has them
            return [kind(*row) for row in rows(f"select {names} from chaos.{table} order by n")]  # noqa: S608 (our own names)

        jobs = rows(
            "select id, (payload->>'order_id')::bigint, kind, state, attempt, created_at, finished_at from outboxkit.jobs"
        )
        letters = rows("select job_id, stage, reason, replayed_at is not null from outboxkit.dead_letters order by id")
        return Evidence(
            acknowledged=frozenset(acknowledged),
            rolled_back=frozenset(rolled_back),
            refusing_faults=refusing_faults,
            orders=dict(rows("select id, kind from chaos.orders")),  # type: ignore[arg-type] # two columns
            jobs=[Job(*row) for row in jobs],  # type: ignore[arg-type] # as selected
            shipments=rows("select order_id, job_id, attempt from chaos.shipments"),  # type: ignore[arg-type] # as selected
            letters=[Letter(*row) for row in letters],  # type: ignore[arg-type] # as selected
            changes=records(Change, "job_history"),  # type: ignore[arg-type] # as selected
            settlings=records(Settling, "trigger_history"),  # type: ignore[arg-type] # as selected
            outside=frozenset(int(line) for line in effects.read_text().split()),
            outbox=int(str(rows("select count(*) from outboxkit.outbox")[0][0])),
        )


def one_write(seen: Evidence) -> Iterator[str]:
    """G1: what was acknowledged stands, what was rolled back does not, and every order has one job with a trigger."""
    yield from (f"order {order} was acknowledged and is gone" for order in seen.acknowledged - seen.orders.keys())
    yield from (f"order {order} was rolled back and is there" for order in seen.rolled_back & seen.orders.keys())
    jobs = Counter(job.order_id for job in seen.jobs)
    yield from (
        f"order {order} has {jobs[order]} jobs" for order in jobs.keys() | seen.orders.keys() if jobs[order] != 1
    )
    yield from (f"job {job.id} has no order" for job in seen.jobs if job.order_id not in seen.orders)
    written = {settling.job_id for settling in seen.settlings if settling.what == "written"}
    yield from (f"job {job.id} was written without a trigger" for job in seen.jobs if job.id not in written)


def nothing_vanishes(seen: Evidence) -> Iterator[str]:
    """G2, G4: every job ended; one that failed has an open dead letter, for a reason that its kind explains."""
    letters = defaultdict(list)
    for letter in seen.letters:
        letters[letter.job_id].append(letter)
    for job in seen.jobs:
        open_letters = [letter for letter in letters[job.id] if not letter.replayed]
        if job.state not in TERMINAL:
            yield f"job {job.id} ({job.kind}) is still {job.state} after attempt {job.attempt}"
        elif len(open_letters) != (job.state == "failed"):
            yield f"job {job.id} is {job.state} with {len(open_letters)} open dead letters"
        if job.kind in ENDS and job.state in TERMINAL and job.state != ENDS[job.kind][0]:
            yield f"job {job.id} ({job.kind}) is {job.state}"
        for letter in letters[job.id]:
            if letter.stage == "job" and letter.reason != ENDS.get(job.kind, ("", ""))[1]:
                yield f"job {job.id} ({job.kind}) died at stage job: {letter.reason}"


def exactly_once(seen: Evidence) -> Iterator[str]:
    """G3: a success shipped once, in the attempt that succeeded; nothing else did."""
    shipments = defaultdict(list)
    for _, job_id, attempt in seen.shipments:
        shipments[job_id].append(attempt)
    for job in seen.jobs:
        wanted = [job.attempt] if job.state == "succeeded" and job.kind not in WITHOUT_SESSION else []
        if shipments[job.id] != wanted:
            yield f"job {job.id} ({job.kind}, {job.state}, attempt {job.attempt}) shipped in attempts {shipments[job.id]}"


def at_least_once(seen: Evidence) -> Iterator[str]:
    """The effect outside took place for every success, and for no order that was rolled back."""
    for job in seen.jobs:
        if job.state == "succeeded" and job.order_id not in seen.outside:
            yield f"order {job.order_id} succeeded without its effect outside"
    yield from (f"order {order} is not there and had an effect outside" for order in seen.outside - seen.orders.keys())


def one_holder(seen: Evidence) -> Iterator[str]:
    """G3: a claim is ended by who made it, or by a sweep after its lease; attempts only grow."""
    holder: dict[UUID, str] = {}
    for change in seen.changes:
        if change.old_state is None:
            continue
        yield from _wrong_claim(change) if change.state == "running" else _wrong_end(change, holder.get(change.job_id))
        if change.state == "running":
            holder[change.job_id] = change.who


def _wrong_claim(change: Change) -> Iterator[str]:
    if change.old_state != "queued":
        yield f"job {change.job_id} was claimed while {change.old_state}"
    if change.attempt != (change.old_attempt or 0) + 1:
        yield f"job {change.job_id} went from attempt {change.old_attempt} to {change.attempt}"


def _wrong_end(change: Change, holder: str | None) -> Iterator[str]:
    job, before = change.job_id, change.old_state
    if change.attempt != change.old_attempt:
        yield f"job {job} went from attempt {change.old_attempt} to {change.attempt} outside a claim"
    if before in TERMINAL and (before, change.state) != ("failed", "queued"):
        yield f"job {job} went from {before} to {change.state}"
    if before != "running":
        return
    if change.reason == "lease-expired" and change.failures > change.old_failures:
        if change.old_lease is None or change.old_lease > change.at:
            yield f"job {job} was taken from {holder} while its lease was live"
    elif change.who != holder:
        yield f"job {job} was held by {holder} and ended by {change.who}"


def history_adds_up(seen: Evidence) -> Iterator[str]:
    """Attempts are claims; each failure is one line in the job's history, a give-back is none."""
    claims: Counter[UUID] = Counter()
    for change in seen.changes:
        claims[change.job_id] += change.state == "running"
        failed = change.old_state in {"running", "queued"} and (
            change.state == "failed" or (change.old_state == "running" and change.state == "queued")
        )
        expected = int(failed and not change.given_back)
        if change.failures - change.old_failures != expected and change.failures < HISTORY:
            yield (
                f"job {change.job_id}: {change.old_state} to {change.state} added "
                f"{change.failures - change.old_failures} failures, not {expected}"
            )
    for job in seen.jobs:
        if job.attempt != claims[job.id]:
            yield f"job {job.id} counts {job.attempt} attempts and was claimed {claims[job.id]} times"


def triggers_are_settled_by_their_holder(seen: Evidence) -> Iterator[str]:
    """G5: a relay settles only triggers that it claimed and nobody else has claimed since."""
    holder: dict[int, str] = {}
    for settling in seen.settlings:
        if settling.what == "claimed":
            holder[settling.outbox_id] = settling.who
        elif settling.who.startswith("relay") and settling.what in {"settled", "deleted"}:
            held_by = holder.get(settling.outbox_id)
            if held_by != settling.who:
                yield f"trigger {settling.outbox_id} was {settling.what} by {settling.who}, held by {held_by}"


def broken_endpoints_cost_nothing(seen: Evidence) -> Iterator[str]:
    """G6: a fault buries no trigger; workers that refuse everything cost four a relay, each time."""
    triggers = Counter(letter.reason for letter in seen.letters if letter.stage == "trigger")
    refused = triggers.pop("malformed-request", 0)
    yield from (f"{count} triggers were buried as {reason}" for reason, count in triggers.items())
    if refused > (most := BELIEVED * RELAYS * seen.refusing_faults):
        yield f"{refused} triggers were buried for a worker that refused everything, not at most {most}"


def outbox_is_empty(seen: Evidence) -> Iterator[str]:
    """In the end there is no trigger left."""
    if seen.outbox:
        yield f"{seen.outbox} triggers are left"


INVARIANTS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "one write": one_write,
    "nothing vanishes": nothing_vanishes,
    "exactly once": exactly_once,
    "at least once": at_least_once,
    "one holder": one_holder,
    "history adds up": history_adds_up,
    "settled by its holder": triggers_are_settled_by_their_holder,
    "a broken endpoint costs nothing": broken_endpoints_cost_nothing,
    "the outbox is empty": outbox_is_empty,
}


def violations(seen: Evidence) -> dict[str, list[str]]:
    """What each invariant has against what was seen; all empty when everything held."""
    return {name: list(check(seen)) for name, check in INVARIANTS.items()}
