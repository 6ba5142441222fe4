"""The statements of docs/protocol.md in the place of the kit's own: every interleaving that those must stand, these must.

And the proof that it bites: each rule is taken out of them as it is taken out of the kit's (tests/integration/outbox), and
the scenario that guards it must fail.
"""

from collections.abc import Iterator

import pytest

from contract.tables import statements
from databases import Database, Server
from integration.outbox.lock_mutations import LOCK_MUTATIONS
from integration.outbox.mutations import MUTATIONS, Mutation, Scenario
from integration.outbox.scenarios import claims, deadlocks, fences
from integration.outbox.stage import staged
from integration.outbox.test_mutations import NOTICED
from outboxkit import queries

# About statements that take several jobs at once, which these do not.
BATCHES = {
    claims.claims_with_crossing_ids_do_not_deadlock,
    claims.claim_raises_the_attempt_and_settles_its_limit,
    fences.heartbeat_does_not_wait_for_a_completion,
    fences.completions_do_not_deadlock,
    fences.give_backs_do_not_deadlock,
    deadlocks.heartbeats_and_completions_do_not_deadlock,
    deadlocks.poller_and_claim_by_id_do_not_deadlock,
    deadlocks.claims_and_settlements_do_not_deadlock,
    deadlocks.claim_holds_no_trigger_while_it_waits_for_a_job,
}

# Rules that these statements hold in words of their own: what to look for instead.
_KINDS = r"and j\.kind in \(.*\)"
_TOKEN = r"(and) (j\.)?attempt = \(%\(attempts\)s::integer\[\]\)\[1\]"
WORDED = {
    ("claim_by_ids", "the kinds"): _KINDS,
    ("claim_due", "the kinds"): _KINDS,
    ("complete_attempts", "the token"): _TOKEN,
    ("give_back", "the token"): _TOKEN,
    ("heartbeat", "the token"): _TOKEN,
    ("give_back", "its lock"): r"for no key update",
}

# Rules that a plain UPDATE of one row holds by itself: it locks the row, with NO KEY, and looks at it again.
PLAIN = {("complete_attempts", "its lock"), ("complete_attempts", "NO KEY")}

RULES = [
    mutation._replace(pattern=WORDED.get((mutation.statement, mutation.without), mutation.pattern))
    for mutation in (*MUTATIONS, *LOCK_MUTATIONS)
    if mutation.statement in statements.SUBSTITUTES and not mutation.is_function and mutation.scenario not in BATCHES
]
SCENARIOS = list({rule.scenario.__name__: rule.scenario for rule in RULES}.values())
BREAKABLE = [rule for rule in RULES if (rule.statement, rule.without) not in PLAIN]


@pytest.fixture(scope="module")
def scenario_database(postgres_server: Server, migrated_template: Database) -> Iterator[Database]:
    """A migrated database for the scenarios, each of which leaves it as it found it."""
    with postgres_server.temporary(template=migrated_template.name) as fresh:
        yield fresh


@pytest.fixture
def in_place_of_the_kits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs one of the kit's statements runs the file of examples/shell/sql that stands for it."""
    texts = {name: statements.substituted(name) for name in statements.SUBSTITUTES}
    load = queries.load
    monkeypatch.setattr(queries, "load", lambda name: texts.get(name) or load(name))


@pytest.mark.usefixtures("in_place_of_the_kits")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_interleaving(scenario_database: Database, scenario: Scenario) -> None:
    """Step by step, with locks held where it hurts, what the scenario's docstring says holds."""
    async with staged(scenario_database) as stage:
        await scenario(stage)


@pytest.mark.usefixtures("in_place_of_the_kits")
@pytest.mark.parametrize("rule", BREAKABLE, ids=lambda rule: f"{rule.statement} without {rule.without}")
async def test_mutation_is_noticed(scenario_database: Database, rule: Mutation) -> None:
    """With a rule taken out of a file, its scenario fails; a rule that is not found in it fails too, and is to be worded."""
    async with staged(scenario_database) as stage:
        stage.rewrites.append((rule.statement, rule.pattern, rule.replacement))
        if rule.also is not None:
            stage.rewrites.append(rule.also)
        with pytest.raises(rule.noticed_by or NOTICED):
            await rule.scenario(stage)
