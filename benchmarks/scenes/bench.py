"""What every scene is given."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.counts import Meter
from benchmarks.database import Server
from benchmarks.results import Run, SceneResult
from benchmarks.roles import Roles

# Jobs that are run before anything is measured: connections are opened, statements prepared, code paths warm.
WARM_UP = 500


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The server, the processes, and how much to do: `jobs` a backlog, `samples` of latency, both in each round."""

    server: Server
    roles: Roles
    meter: Meter
    jobs: int
    samples: int
    rounds: int


Scene: TypeAlias = Callable[[Bench], Awaitable[SceneResult]]
Contender: TypeAlias = Callable[[], Awaitable[Run]]
