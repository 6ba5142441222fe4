"""What a scene found out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.arithmetic import ratio


@dataclass(frozen=True)
class Series:
    """One thing measured once a round."""

    name: str
    values: Sequence[float]

    @property
    def middle(self) -> float:
        """The median over the rounds."""
        return median(self.values)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ours beside one floor. In `jobs/s` more is better, in `ms` less."""

    what: str
    unit: str
    ours: Series
    floor: Series

    @property
    def ratio(self) -> float:
        """Ours divided by the floor."""
        return ratio(self.ours.values, self.floor.values)


@dataclass(frozen=True, kw_only=True)
class PerJob:
    """What one job took, on the average of one measurement: counts that a busy machine does not change, and CPU time.

    `transactions` are those that wrote something. `dead` are row versions left for vacuum, by table. `cpu` is in
    microseconds, by process.
    """

    statements: float
    transactions: float
    wal_bytes: float
    dead: Mapping[str, float]
    cpu: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One contender in one round: jobs a second, by the wall clock too where `rate` has another, and the counts of ours."""

    rate: float
    wall: float = 0.0
    per_job: PerJob | None = None


@dataclass(frozen=True, kw_only=True)
class SceneResult:
    """All that one scene found out; `notes` say what its figures mean, `per_job` has the counts by what was measured."""

    name: str
    title: str
    notes: Sequence[str]
    comparisons: Sequence[Comparison]
    per_job: Mapping[str, PerJob] = field(default_factory=dict)


def rates(name: str, runs: Sequence[Run]) -> Series:
    """The rounds' rates."""
    return Series(name, [run.rate for run in runs])


def last_counts(runs: Sequence[Run]) -> PerJob:
    """The counts of the last round, when everything was warm."""
    counts = runs[-1].per_job
    assert counts is not None
    return counts
