"""The conformance suite under pytest: each check is a test of its own.

    from outboxkit_contracts.testing import Target, WorkerConformance, CommandJobs

    class TestMyWorker(WorkerConformance):
        @pytest.fixture(scope="class")
        @classmethod
        def target(cls, my_worker):
            return Target(url=my_worker.url, secret="…", jobs=CommandJobs("./new-job {need}"))

Any class that derives from `WorkerConformance` and has a fixture `target` is the whole suite; `level` and `only` narrow it.
A check that has no job of the sort it needs is skipped and says what to give; the rest passes, or fails with what was due,
where the document says so, and a command line that sends the same request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from outboxkit_contracts.conformance import (
    CannotMake,
    Check,
    CommandJobs,
    Jobs,
    Level,
    MakingFailed,
    Need,
    NoJobs,
    Result,
    Target,
    run_check,
    select,
)

__all__ = [
    "CannotMake",
    "Check",
    "CommandJobs",
    "Jobs",
    "Level",
    "MakingFailed",
    "Need",
    "NoJobs",
    "Result",
    "Target",
    "WorkerConformance",
    "run_check",
    "select",
]


class WorkerConformance:
    """Derive from this, and give it a fixture `target`.

    `only` has patterns of check names, such as `request.*`.
    """

    level: ClassVar[Level] = Level.FULL
    only: ClassVar[Sequence[str]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each check."""
        if "conformance_check" in metafunc.fixturenames:
            found = select(self.level, self.only)
            metafunc.parametrize("conformance_check", found, ids=[check.name for check in found])

    def test_conforms(self, conformance_check: Check, target: Target) -> None:
        """The worker keeps this rule of the document."""
        result = run_check(conformance_check, target)
        if result.outcome == "skipped":
            pytest.skip(result.message)
        if result.outcome == "failed":
            pytest.fail(
                f"{result.check.title}\n  what: {result.message}\n  document: {result.check.section}\n"
                f"  try: {result.reproduce}",
                pytrace=False,
            )
