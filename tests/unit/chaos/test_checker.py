"""The checker of the chaos program finds each violation, and nothing in a run where all went well."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from chaos.checker import Change, Evidence, Job, Letter, Settling, violations

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
FIRST, SECOND = uuid4(), uuid4()


def change(job: Any, before: str | None, after: str, **values: Any) -> Change:
    """A line of history; what is not given is as it is when all goes well."""
    attempt = values.pop("attempt", 0 if before is None else 1)
    old_attempt = values.pop("old_attempt", None if before is None else attempt - (after == "running"))
    usual: dict[str, Any] = {
        "at": NOW,
        "who": "worker_a",
        "old_lease": LATER,
        "given_back": False,
        "old_failures": 0,
        "failures": 0,
        "reason": None,
    }
    return Change(
        **{**usual, "job_id": job, "old_state": before, "state": after, "old_attempt": old_attempt, "attempt": attempt}
        | values
    )


def fine() -> Evidence:
    """Two orders: one shipped, one hopeless; one more was rolled back."""
    return Evidence(
        acknowledged=frozenset({1, 2}),
        rolled_back=frozenset({3}),
        refusing_faults=0,
        orders={1: "SHIP", 2: "HOPELESS"},
        jobs=[Job(FIRST, 1, "SHIP", "succeeded", 1, NOW, NOW), Job(SECOND, 2, "HOPELESS", "failed", 1, NOW, NOW)],
        shipments=[(1, FIRST, 1)],
        letters=[Letter(SECOND, "job", "handler-failed", False)],
        changes=[
            *(change(job, None, "queued", who="web") for job in (FIRST, SECOND)),
            *(change(job, "queued", "running") for job in (FIRST, SECOND)),
            change(FIRST, "running", "succeeded"),
            change(SECOND, "running", "failed", failures=1, reason="handler-failed"),
        ],
        settlings=[Settling("web", 1, FIRST, "written"), Settling("web", 2, SECOND, "written"),
                   Settling("relay_a", 1, FIRST, "claimed"), Settling("worker_a", 1, FIRST, "deleted")],
        outside=frozenset({1}),
        outbox=0,
    )  # fmt: skip


def ended(seen: Evidence, **values: Any) -> Evidence:
    """The first job ended in another way."""
    [*before, _, last] = seen.changes
    return seen._replace(changes=[*before, change(FIRST, "running", "succeeded", **values), last])


Spoiled = Callable[[Evidence], Evidence]
SPOILED: list[tuple[str, str, Spoiled]] = [
    ("one write", "an acknowledged order is gone", lambda s: s._replace(acknowledged=frozenset({1, 2, 9}))),
    ("one write", "a rolled-back order is there", lambda s: s._replace(rolled_back=frozenset({1}))),
    ("one write", "an order without a job", lambda s: s._replace(orders={**s.orders, 4: "SHIP"})),
    ("one write", "a job without a trigger", lambda s: s._replace(settlings=s.settlings[1:])),
    (
        "nothing vanishes",
        "a job still runs",
        lambda s: s._replace(jobs=[s.jobs[0]._replace(state="running"), s.jobs[1]]),
    ),
    ("nothing vanishes", "a failed job without its letter", lambda s: s._replace(letters=[])),
    (
        "nothing vanishes",
        "a letter for a success",
        lambda s: s._replace(letters=[*s.letters, Letter(FIRST, "trigger", "x", False)]),
    ),
    (
        "nothing vanishes",
        "a healthy job that died",
        lambda s: s._replace(
            jobs=[s.jobs[0]._replace(state="failed"), s.jobs[1]],
            letters=[*s.letters, Letter(FIRST, "job", "lease-expired", False)],
        ),
    ),
    ("exactly once", "two shipments", lambda s: s._replace(shipments=s.shipments * 2)),
    ("exactly once", "no shipment", lambda s: s._replace(shipments=[])),
    ("exactly once", "a zombie's shipment", lambda s: s._replace(shipments=[(1, FIRST, 7)])),
    ("at least once", "no effect outside", lambda s: s._replace(outside=frozenset())),
    ("at least once", "an effect of what was rolled back", lambda s: s._replace(outside=frozenset({1, 3}))),
    ("one holder", "ended by somebody else", lambda s: ended(s, who="worker_b")),
    (
        "one holder",
        "taken while the lease was live",
        lambda s: ended(s, who="relay_a", failures=1, reason="lease-expired"),
    ),
    ("one holder", "an attempt that falls", lambda s: ended(s, attempt=1, old_attempt=2)),
    (
        "one holder",
        "a claim of a running job",
        lambda s: s._replace(
            changes=[
                *s.changes[:4],
                s.changes[2]._replace(old_state="running", old_attempt=1, attempt=2),
                *s.changes[4:],
            ]
        ),
    ),
    (
        "history adds up",
        "a claim that is not counted",
        lambda s: s._replace(jobs=[s.jobs[0]._replace(attempt=2), s.jobs[1]]),
    ),
    (
        "history adds up",
        "a failure that is not written",
        lambda s: s._replace(changes=[*s.changes[:-1], s.changes[-1]._replace(failures=0)]),
    ),
    (
        "settled by its holder",
        "settled by another relay",
        lambda s: s._replace(settlings=[*s.settlings, Settling("relay_b", 1, FIRST, "settled")]),
    ),
    (
        "a broken endpoint costs nothing",
        "a fault that buried a trigger",
        lambda s: s._replace(letters=[*s.letters, Letter(uuid4(), "trigger", "endpoint-fault", False)]),
    ),
    (
        "a broken endpoint costs nothing",
        "more refusals than are believed",
        lambda s: s._replace(
            refusing_faults=1, letters=[*s.letters, *[Letter(uuid4(), "trigger", "malformed-request", True)] * 9]
        ),
    ),
    ("the outbox is empty", "a trigger is left", lambda s: s._replace(outbox=1)),
]


def test_a_good_run_has_no_violations() -> None:
    """Nothing is found where nothing is wrong."""
    assert not any(violations(fine()).values())


@pytest.mark.parametrize(("invariant", "spoil"), [case[::2] for case in SPOILED], ids=[case[1] for case in SPOILED])
def test_a_violation_is_found(invariant: str, spoil: Spoiled) -> None:
    """Each thing that goes wrong is noticed by the invariant it belongs to."""
    assert violations(spoil(fine()))[invariant]
