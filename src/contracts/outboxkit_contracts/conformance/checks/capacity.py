"""A worker that is full. Last, because it leaves the worker busy."""

from __future__ import annotations

from time import monotonic, sleep

from outboxkit_contracts.conformance import observed
from outboxkit_contracts.conformance.checks.jobs import ANSWERS
from outboxkit_contracts.conformance.jobs import Need
from outboxkit_contracts.conformance.outcomes import Failed, Skipped
from outboxkit_contracts.conformance.probe import Probe, accepted, expect
from outboxkit_contracts.conformance.suite import check
from outboxkit_contracts.conformance.target import Level

_EMPTIES = 30.0
_PAUSE = 0.1


@check("capacity.full", f"{ANSWERS}/429", level=Level.FULL)
def full(probe: Probe) -> None:
    """A worker whose slots are taken answers 429 `worker-full`, and takes the job later."""
    slots = probe.target.slots
    if slots is None:
        raise Skipped("needs --slots")
    for job in [probe.job(Need.SLOW) for _ in range(slots)]:
        accepted(probe.trigger(job), job, duplicate=False)
    job = probe.job(Need.SLOW)
    answer = probe.trigger(job)
    expect(answer, 429, "worker-full", f"a job beyond {slots} that are running")
    observed.is_untouched(probe, job, answer)
    deadline = monotonic() + _EMPTIES
    while answer.status == 429:
        if monotonic() > deadline:
            raise Failed(f"the worker is still full after {_EMPTIES:g} s", answer)
        sleep(_PAUSE)
        answer = probe.trigger(job)
    accepted(answer, job, duplicate=False)
