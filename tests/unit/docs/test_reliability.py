"""docs/reliability.md speaks of what is there."""

from pathlib import Path

import pytest

from chaos.checker import INVARIANTS
from chaos.faults import DISK_FULL, FAULTS
from chaos.mutants import MUTANTS

TEXT = (Path(__file__).parents[3] / "docs" / "reliability.md").read_text()


@pytest.mark.parametrize("name", [*FAULTS, DISK_FULL, *INVARIANTS, *(mutant.without for mutant in MUTANTS)])
def test_everything_that_attacks_and_checks_is_in_the_document(name: str) -> None:
    """Each fault, each invariant and each mutant of the chaos program is named."""
    assert name in TEXT
