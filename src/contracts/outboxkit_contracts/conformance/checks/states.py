"""Jobs that are not simply due: too early, unknown, failing, taken over."""

from __future__ import annotations

from typing import Final

from outboxkit_contracts.conformance import observed
from outboxkit_contracts.conformance.checks.jobs import ANSWERS, WAIT, settle
from outboxkit_contracts.conformance.exchanges import Exchange
from outboxkit_contracts.conformance.jobs import Need
from outboxkit_contracts.conformance.outcomes import Failed
from outboxkit_contracts.conformance.probe import Probe, accepted, expect
from outboxkit_contracts.conformance.suite import check
from outboxkit_contracts.conformance.target import Level

_HOUR: Final = 3600


@check("jobs.not-due", f"{ANSWERS}/409", level=Level.FULL)
def not_due(probe: Probe) -> None:
    """A job that is due in an hour is answered 409 `not-due`, and is left alone."""
    job = probe.job(Need.FUTURE)
    for answer in (probe.trigger(job), probe.trigger(job, wait=WAIT)):
        expect(answer, 409, "not-due", "a job that is due in an hour")
        after = int(answer.header("retry-after") or 0)
        if not _HOUR / 2 <= after <= _HOUR + 1:
            raise Failed(f"the job is due in an hour, and Retry-After says {after} s", answer)
        _agrees(answer, after)
        observed.is_untouched(probe, job, answer)


@check("jobs.unknown-kind", f"{ANSWERS}/422", level=Level.FULL)
def unknown_kind(probe: Probe) -> None:
    """A job whose kind has no handler is answered 422 `unknown-kind`, and is left alone."""
    job = probe.job(Need.UNKNOWN_KIND)
    answer = probe.trigger(job, wait=WAIT)
    expect(answer, 422, "unknown-kind", "a job of a kind that nobody handles")
    observed.is_untouched(probe, job, answer)


@check("jobs.failing", f"{ANSWERS}/200", level=Level.FULL)
def failing(probe: Probe) -> None:
    """A handler that fails is a delivered trigger: 200, once the failure is recorded."""
    job = probe.job(Need.FAILING)
    answer = probe.trigger(job, wait=WAIT)
    accepted(answer, job, duplicate=False, state=("queued", "failed", "cancelled"))
    observed.is_as_answered(probe, job, answer)


@check("jobs.fence", "#/paths/~1process-job/post/description", level=Level.FULL)
def fence(probe: Probe) -> None:
    """A worker whose job was taken over does not settle it: its completion is refused."""
    jobs = observed.observed(probe)
    job = probe.job(Need.SLOW)
    answer = probe.trigger(job)
    accepted(answer, job, duplicate=False, state="running")
    holder = jobs.take_over(job)
    try:
        # One that is started now has settled when the first one has had its time.
        other = probe.job(Need.SLOW)
        accepted(probe.trigger(other), other, duplicate=False)
        settle(probe, other)
        row = jobs.row(job)
        if (row.state, row.leased_by) != ("running", holder):
            raise Failed(
                f"the job had been taken over by another worker, and yet the first one made it {row.state}: "
                "every write must name the attempt and the holder",
                answer,
            )
    finally:
        jobs.cancel(job)


def _agrees(answer: Exchange, after: int) -> None:
    said = answer.document.get("retryAfter", after)
    if said != after:
        raise Failed(f"retryAfter is {said}, and the header Retry-After {after}", answer)
