"""As mutations.py, for the scenarios about locks and clocks that run through many statements."""

from psycopg import errors

from integration.outbox.mutations import SKIPS_TRIGGERS, Mutation, Scenario
from integration.outbox.scenarios import children, clocks, deadlocks

_SETTLEMENTS = ["ack_triggers", "retry_triggers", "give_back_triggers"]
_SKIP = ("skip locked", "")


def _deadlock(
    name: str,
    without: str,
    pattern: str,
    replacement: str,
    scenario: Scenario,
    also: tuple[str, str, str] | None = None,
) -> Mutation:
    return Mutation(name, without, pattern, replacement, scenario, also=also, noticed_by=errors.DeadlockDetected)


# The triggers locked first, and the job after them.
_JOBS_FIRST = r"with (wanted|job) as materialized \(([^;]*?)\bwhere"


def _triggers_first(ids: str) -> str:
    early = f"select o.id from outboxkit.outbox o where o.job_id = any({ids}) for update"  # noqa: S608 (ours)
    waiting = r"\1 as materialized (\2where (select count(*) from early) >= 0 and"
    return f"with early as materialized ({early}), {waiting}"


DEADLOCKS = [
    _deadlock("heartbeat", "SKIP LOCKED and an order", r"order by j\.id\s+for no key update of j skip locked",
              "for no key update of j", deadlocks.heartbeats_and_completions_do_not_deadlock),
    _deadlock("claim_due", "SKIP LOCKED on the jobs", r"for no key update skip locked", "for no key update",
              deadlocks.poller_and_claim_by_id_do_not_deadlock),
    _deadlock("sweep_expired_leases", "SKIP LOCKED", *_SKIP, deadlocks.expired_sweep_and_completions_do_not_deadlock),
    _deadlock("sweep_stranded", "SKIP LOCKED", *_SKIP, deadlocks.stranded_sweep_and_claims_do_not_deadlock),
    *[_deadlock(name, "SKIP LOCKED, nor the claim", *_SKIP, deadlocks.claims_and_settlements_do_not_deadlock,
                also=("claim_by_ids", SKIPS_TRIGGERS, "from claimed)) for update")) for name in _SETTLEMENTS],
    *[_deadlock(name, "SKIP LOCKED, nor the poller", *_SKIP, deadlocks.polled_claims_and_settlements_do_not_deadlock,
                also=("claim_due", SKIPS_TRIGGERS, "from claimed)) for update")) for name in _SETTLEMENTS],
    *[_deadlock(name, "SKIP LOCKED", *_SKIP, deadlocks.settlements_do_not_deadlock) for name in _SETTLEMENTS],
    *[_deadlock(name, "SKIP LOCKED, nor claim_triggers", *_SKIP,
                deadlocks.triggers_claim_and_late_settlements_do_not_deadlock,
                also=("claim_triggers", *_SKIP)) for name in _SETTLEMENTS],
    Mutation("claim_by_ids", "the lock order", _JOBS_FIRST, _triggers_first("%(ids)s"),
             deadlocks.claim_holds_no_trigger_while_it_waits_for_a_job, noticed_by=errors.LockNotAvailable),
    Mutation("cancel_job", "the lock order", _JOBS_FIRST, _triggers_first("array[%(id)s]"),
             deadlocks.cancel_holds_no_trigger_while_it_waits_for_its_job, noticed_by=errors.LockNotAvailable),
    Mutation("replay_dead_letter", "locking the job", r"for no key update", "",
             deadlocks.replay_holds_no_letter_while_it_waits_for_its_job, noticed_by=errors.LockNotAvailable),
]  # fmt: skip

_NO_KEY = ("no key update", "update")

CHILDREN = [
    Mutation("heartbeat", "NO KEY", *_NO_KEY, children.heartbeat_renews_a_job_whose_child_is_being_inserted),
    Mutation("complete_attempts", "NO KEY", *_NO_KEY, children.no_ending_waits_for_a_child),
    Mutation("give_back", "NO KEY", *_NO_KEY, children.no_ending_waits_for_a_child),
    Mutation("cancel_job", "NO KEY", *_NO_KEY, children.nobody_else_waits_for_a_child),
    Mutation("bury_trigger", "NO KEY", *_NO_KEY, children.nobody_else_waits_for_a_child),
    Mutation("replay_dead_letter", "NO KEY", *_NO_KEY, children.nobody_else_waits_for_a_child),
    Mutation("sweep_expired_leases", "NO KEY", *_NO_KEY,
             children.expired_sweep_sees_a_job_whose_child_is_being_inserted),
    Mutation("sweep_stranded", "NO KEY", *_NO_KEY, children.stranded_sweep_sees_a_job_whose_child_is_being_inserted),
    Mutation("sweep_finished_jobs", "a lock that a delete needs", r"for update", "for no key update",
             children.retention_leaves_a_job_whose_child_is_being_inserted),
]  # fmt: skip

_NOW = (r"clock_timestamp\(\)", "now()")

CLOCKS = [
    Mutation("heartbeat", "the clock", *_NOW, clocks.heartbeats_lease_is_as_long_as_it_says),
    Mutation("end_attempt", "the clock", *_NOW, clocks.retry_waits_as_long_as_it_says),
    Mutation(
        "end_attempt",
        "its lock",
        r"for no key update",
        "",
        clocks.retry_that_waited_for_its_job_waits_as_long_as_it_says,
    ),
    Mutation("retry_triggers", "the clock", *_NOW, clocks.triggers_retry_waits_as_long_as_it_says),
    Mutation("give_back", "the clock", *_NOW, clocks.given_back_job_is_due_from_then),
    Mutation("give_back_triggers", "the clock", *_NOW, clocks.given_back_trigger_is_due_from_then),
    Mutation("sweep_expired_leases", "the clock", *_NOW, clocks.swept_job_is_due_from_then),
    Mutation("sweep_stranded", "the clock", *_NOW, clocks.rescue_leaves_the_transport_its_time),
    Mutation("replay_dead_letter", "the clock", *_NOW, clocks.replayed_job_is_due_from_then),
    Mutation("enqueue_job", "the clock", *_NOW, clocks.job_is_due_when_it_is_enqueued, is_function=True),
    Mutation("enqueue_jobs", "the clock", *_NOW, clocks.jobs_are_due_when_they_are_enqueued, is_function=True),
]

LOCK_MUTATIONS: list[Mutation] = [*DEADLOCKS, *CHILDREN, *CLOCKS]
