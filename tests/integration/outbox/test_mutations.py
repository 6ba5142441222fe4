"""Proof that the interleavings bite: each rule is taken out of the SQL, and its scenario must then fail."""

import pytest
from psycopg import errors

from databases import Database
from integration.outbox.hand_over_mutations import HAND_OVERS
from integration.outbox.lock_mutations import LOCK_MUTATIONS
from integration.outbox.mutations import MUTATIONS, Mutation
from integration.outbox.stage import staged
from integration.outbox.test_interleavings import THEMES

# How a scenario fails. Any other error, a syntax error say, would prove nothing.
NOTICED = (AssertionError, errors.DeadlockDetected, errors.LockNotAvailable, errors.UniqueViolation)

ALL = [*MUTATIONS, *LOCK_MUTATIONS, *HAND_OVERS]


def _name(mutation: Mutation) -> str:
    return f"{mutation.statement} without {mutation.without}"


@pytest.mark.parametrize("mutation", ALL, ids=_name)
async def test_mutation_is_noticed(scenario_database: Database, mutation: Mutation) -> None:
    """With the rule taken out, the scenario that guards it fails: by an assertion, a deadlock, or a lock it did not get."""
    async with staged(scenario_database) as stage:
        if mutation.is_function:
            await stage.rewrite_function(mutation.statement, mutation.pattern, mutation.replacement)
        else:
            stage.rewrites.append((mutation.statement, mutation.pattern, mutation.replacement))
        if mutation.also is not None:
            stage.rewrites.append(mutation.also)
        with pytest.raises(mutation.noticed_by or NOTICED):
            await mutation.scenario(stage)


def test_every_scenario_has_a_mutation() -> None:
    """No scenario passes whatever the SQL says: for each there is a rule whose loss it notices."""
    proven = {mutation.scenario for mutation in ALL}
    assert [s.__name__ for theme in THEMES for s in theme.SCENARIOS if s not in proven] == []
