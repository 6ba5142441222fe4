"""Each broken worker fails where it is broken, and nowhere else."""

import subprocess
from pathlib import Path

import pytest

from contract.conformance.caught import CAUGHT
from contract.conformance.workers import SECRET, SLOTS, broken, environment, running
from databases import Database
from outboxkit_contracts.conformance import Level, Target, run, select
from outboxkit_contracts.conformance.database import DatabaseJobs


def test_every_broken_worker_is_tried(psql: Path) -> None:
    """The table has the broken workers that there are, twelve or more."""
    there = environment(1, "", psql)
    listed = subprocess.run(broken("--list"), env=there, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(listed) == sorted(CAUGHT)
    assert len(listed) >= 12


@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_worker_fails_in_the_right_place(
    name: str, database: Database, jobs: DatabaseJobs, psql: Path
) -> None:
    """Of every check of level basic, and those that are to notice it, just these fail; each says how to see it."""
    with running(broken(name), database.url, psql) as url:
        target = Target(url=url, secret=SECRET, jobs=jobs, slots=SLOTS, deadline=5)
        chosen = [check for check in select() if check.level is Level.BASIC or check.name in CAUGHT[name]]
        failed = [result for result in run(target, chosen) if result.outcome == "failed"]
    beside = [f"{result.check.name}: {result.message}" for result in failed if result.check.name not in CAUGHT[name]]
    assert not beside, "\n".join(beside)
    assert {result.check.name for result in failed} == set(CAUGHT[name])
    for result in failed:
        assert result.reproduce, result
        assert SECRET not in result.reproduce + result.message
