"""What a run prints: faults with the time everybody took to recover, invariants, and the figures behind them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import median
from uuid import UUID

from chaos.checker import INVARIANTS, TERMINAL, Evidence
from chaos.run import Run, Struck

# Jobs that take long by themselves say nothing about recovery.
LONG = {"SLOW", "POISON", "FLAKY"}
SHOWN = 5


def recovery(struck: Struck, ends: Sequence[tuple[datetime, datetime]]) -> float:
    """Seconds from the fault's end until every job that was under way then had ended.

    The next fault strikes less than a second later (unless they are kept apart), so what it did to the same jobs counts too.
    """
    late = [(end - struck.ended).total_seconds() for created, end in ends if created < struck.ended < end]
    return max(late, default=0.0)


def first_ends(seen: Evidence) -> list[tuple[datetime, datetime]]:
    """When each job was created, and when it ended for the first time: a replay of its dead letter does not count."""
    ends: dict[UUID, datetime] = {}
    for change in seen.changes:
        if change.state in TERMINAL:
            ends.setdefault(change.job_id, change.at)
    return [(job.created_at, ends[job.id]) for job in seen.jobs if job.kind not in LONG and job.id in ends]


def lines(run: Run) -> Iterator[str]:
    """The report, line by line."""
    yield from _figures(run)
    yield ""
    yield from _faults(run)
    yield ""
    yield from _invariants(run)
    yield from run.deaths
    unfelt = sorted({struck.step.fault for struck in run.struck if not struck.felt})
    if unfelt:
        yield f"nobody felt: {', '.join(unfelt)}"


def _figures(run: Run) -> Iterator[str]:
    seen = run.evidence
    states = Counter(job.state for job in seen.jobs)
    attempts = sum(job.attempt for job in seen.jobs)
    yield f"seed {run.seed}, {run.seconds:.0f} s, {len(run.struck)} faults"
    yield (
        f"orders: {len(seen.orders)} stand, {len(seen.acknowledged)} of them acknowledged, {len(seen.rolled_back)} rolled "
        f"back, {run.unknown} without an answer"
    )
    yield (
        f"jobs: {states['succeeded']} succeeded, {states['failed']} in the dead letters, {run.replayed} replayed; "
        f"{attempts} attempts, {attempts - len(seen.jobs)} more than jobs"
    )
    tasks = run.tasks
    yield (
        f"tasks: {tasks['made'] + tasks['lost']} made, {tasks['lost']} of them lost, {tasks['vanished']} vanished, "
        f"{tasks['given up']} given up; {tasks['answered']} calls, {tasks['answered 2']} of them accepted"
    )
    yield f"zombies that came back too late and were refused: {run.zombies}"


def _faults(run: Run) -> Iterator[str]:
    by_name, ends = defaultdict(list), first_ends(run.evidence)
    for struck in run.struck:
        by_name[struck.step.fault].append(recovery(struck, ends))
    yield f"{'recovered after, in seconds':32}{'times':>6}{'p50':>8}{'max':>8}"
    for name, times in sorted(by_name.items()):
        yield f"{name:32}{len(times):6}{median(times):8.2f}{max(times):8.2f}"
    everything = [seconds for times in by_name.values() for seconds in times]
    if everything:
        yield f"{'all':32}{len(everything):6}{median(everything):8.2f}{max(everything):8.2f}"


def _invariants(run: Run) -> Iterator[str]:
    for name, check in INVARIANTS.items():
        found = run.violations[name]
        about = (check.__doc__ or "").partition("\n")[0]
        yield f"{'VIOLATED' if found else 'holds':10}{name}: {about}"
        yield from (f"            {violation}" for violation in found[:SHOWN])
        if len(found) > SHOWN:
            yield f"            and {len(found) - SHOWN} more"
