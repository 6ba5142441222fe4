"""What an answer says, held against the database, where the run has one to look at."""

from __future__ import annotations

from uuid import UUID

from outboxkit_contracts.conformance.exchanges import Exchange
from outboxkit_contracts.conformance.jobs import JobRow, ObservedJobs
from outboxkit_contracts.conformance.outcomes import Failed, Skipped
from outboxkit_contracts.conformance.probe import Probe


def observed(probe: Probe) -> ObservedJobs:
    """The source of jobs that can also be looked at. Raises `Skipped` when there is none."""
    if not isinstance(probe.target.jobs, ObservedJobs):
        raise Skipped("needs --database-url")
    return probe.target.jobs


def is_claimed(probe: Probe, job: UUID, answer: Exchange) -> None:
    """The answer accepted the job, so its claim stands in the database: whoever acknowledges first may lose the job."""
    row = _row(probe, job)
    if row and (row.state == "queued" or row.attempt == 0):
        raise Failed("the job was accepted while it was still queued: claim first, commit, then answer", answer)
    if row and row.triggers:
        raise Failed("the job was claimed, and its outbox row is still there: delete it with the claim", answer)


def is_as_answered(probe: Probe, job: UUID, answer: Exchange) -> None:
    """The answer speaks of a settled state, and that is the job's state."""
    row = _row(probe, job)
    if row and row.state != answer.document["state"]:
        raise Failed(f"the answer says {answer.document['state']}; in the database the job is {row.state}", answer)


def ran_once(probe: Probe, job: UUID, answer: Exchange) -> None:
    """The job was claimed once, however many triggers there were."""
    row = _row(probe, job)
    if row and row.attempt != 1:
        raise Failed(f"the job was to run once; it was claimed {row.attempt} times", answer)


def is_untouched(probe: Probe, job: UUID, answer: Exchange) -> None:
    """The job was not accepted, so it stands as it was."""
    row = _row(probe, job)
    if row and (row.state, row.attempt) != ("queued", 0):
        raise Failed(f"the job was not accepted, yet it is {row.state} after {row.attempt} attempts", answer)


def _row(probe: Probe, job: UUID) -> JobRow | None:
    return probe.target.jobs.row(job) if isinstance(probe.target.jobs, ObservedJobs) else None
