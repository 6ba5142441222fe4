"""What becomes of a job: accepted once, and settled."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Final
from uuid import UUID, uuid4

from outboxkit_contracts.conformance import observed
from outboxkit_contracts.conformance.exchanges import Exchange
from outboxkit_contracts.conformance.jobs import Need
from outboxkit_contracts.conformance.outcomes import Failed
from outboxkit_contracts.conformance.probe import Probe, accepted, expect
from outboxkit_contracts.conformance.suite import check
from outboxkit_contracts.conformance.target import Level

ANSWERS: Final = "#/paths/~1process-job/post/responses"
WAIT: Final = 30
# How long any job may take: the 10 seconds of a slow one, and some for the worker.
SLOWEST: Final = 15.0
PAUSE: Final = 0.1
AT_ONCE: Final = 8


def settle(probe: Probe, job: UUID) -> Exchange:
    """Trigger a job again and again until it is settled; returns the answer that says so."""
    deadline = monotonic() + SLOWEST
    while monotonic() < deadline:
        answer = probe.trigger(job, wait=WAIT)
        if accepted(answer, job)["state"] != "running":
            return answer
        sleep(PAUSE)
    raise Failed(f"the job is still running after {SLOWEST:g} s; a slow one is to take 2 to 10", answer)


@check("jobs.unknown", f"{ANSWERS}/404")
def unknown(probe: Probe) -> None:
    """A job that does not exist is answered 404 `unknown-job`."""
    expect(probe.trigger(uuid4()), 404, "unknown-job", "an id that no job has")
    expect(probe.trigger(uuid4(), wait=WAIT), 404, "unknown-job", "an id that no job has, with Prefer: wait")
    expect(probe.trigger(UUID(int=0)), 404, "unknown-job", "the id of noughts")


@check("jobs.accepted", f"{ANSWERS}/202")
def accept(probe: Probe) -> None:
    """A queued job is accepted, and its claim is committed before the answer."""
    job = probe.job(Need.QUICK)
    answer = probe.trigger(job)
    accepted(answer, job, duplicate=False, state=("running", "succeeded"))
    observed.is_claimed(probe, job, answer)


@check("jobs.settled", f"{ANSWERS}/200")
def settled(probe: Probe) -> None:
    """With `Prefer: wait` the answer comes when the job is settled, and says how."""
    job = probe.job(Need.QUICK)
    answer = probe.trigger(job, wait=WAIT)
    document = accepted(answer, job, duplicate=False, state=("running", "succeeded"))
    if document["state"] == "running":  # the worker may shorten the wait, even to nothing
        answer = settle(probe, job)
        accepted(answer, job, duplicate=True, state="succeeded")
    observed.is_as_answered(probe, job, answer)


@check("jobs.settled-duplicate", f"{ANSWERS}/200")
def settled_duplicate(probe: Probe) -> None:
    """A trigger for a settled job is acknowledged as a duplicate, and runs nothing."""
    job = probe.job(Need.QUICK)
    accepted(settle(probe, job), job, state="succeeded")
    for wait in (None, WAIT):
        answer = probe.trigger(job, wait=wait)
        accepted(answer, job, duplicate=True, state="succeeded")
    observed.ran_once(probe, job, answer)


@check("jobs.concurrent", f"{ANSWERS}/202", level=Level.FULL)
def concurrent(probe: Probe) -> None:
    """Of triggers that come at once, one starts the job; the others are duplicates."""
    job = probe.job(Need.QUICK)
    with ThreadPoolExecutor(AT_ONCE) as senders:
        answers = list(senders.map(lambda _: probe.trigger(job), range(AT_ONCE)))
    starts = Counter(accepted(answer, job)["duplicate"] for answer in answers)
    if starts[False] != 1:
        raise Failed(
            f"{AT_ONCE} triggers came at once, and {starts[False]} of them claim to have started the job", answers[-1]
        )
    accepted(settle(probe, job), job, state="succeeded")
    observed.ran_once(probe, job, answers[-1])


@check("jobs.running-duplicate", f"{ANSWERS}/202", level=Level.FULL)
def running_duplicate(probe: Probe) -> None:
    """Without Prefer the answer comes while the job runs; another trigger is a duplicate."""
    job = probe.job(Need.SLOW)
    accepted(probe.trigger(job), job, duplicate=False, state="running")
    accepted(probe.trigger(job), job, duplicate=True, state="running")
    accepted(settle(probe, job), job, state="succeeded", duplicate=True)


@check("jobs.wait-ends", "#/paths/~1process-job/post/parameters/0", level=Level.FULL)
def wait_ends(probe: Probe) -> None:
    """A wait that is shorter than the job ends with 202."""
    job = probe.job(Need.SLOW)
    answer = probe.trigger(job, wait=1)
    accepted(answer, job, duplicate=False, state="running")
    applied = answer.header("preference-applied")
    if applied not in (None, "wait=0", "wait=1"):
        raise Failed(f"`Preference-Applied: {applied}` is more than was asked for", answer)
