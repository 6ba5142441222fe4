"""Ways to break the kit's SQL, each with the scenario that must notice (test_mutations.py)."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from integration.outbox.scenarios import claims, deliveries, endings, enqueueing, fences, sweeping
from integration.outbox.stage import Stage

Scenario = Callable[[Stage], Awaitable[None]]


class Mutation(NamedTuple):
    """One rule taken out of a statement of queries/, or out of an SQL function, and the scenario that notices.

    Where either of two statements suffices to hold the rule, the other loses it too: its name, pattern and replacement are
    `also`. `noticed_by` says which error it must be, where any failure would not prove enough.
    """

    statement: str
    without: str
    pattern: str
    replacement: str
    scenario: Scenario
    is_function: bool = False
    also: tuple[str, str, str] | None = None
    noticed_by: type[Exception] | None = None


# What the patterns have in common.
SKIPS_TRIGGERS = r"from claimed\)\) for update skip locked"

CLAIMS = [
    Mutation("claim_by_ids", "waiting", r"for no key update", "for no key update skip locked",
             claims.claim_by_id_waits_for_a_locked_row),
    Mutation("claim_by_ids", "a second look at the state", r"and j\.state = 'queued'", "",
             claims.claim_by_id_looks_again_after_its_wait),
    Mutation("claim_by_ids", "a second look at the due time", r"and j\.run_at <= .*", "",
             claims.claim_by_id_compares_the_due_time_again_after_its_wait),
    Mutation("claim_by_ids", "the clock in that look", r"j\.run_at <= clock_timestamp\(\)", "j.run_at <= now()",
             claims.claim_by_id_compares_with_the_clock_after_its_wait),
    Mutation("claim_by_ids", "the clock in the lease", r"lease_until = clock_timestamp\(\)", "lease_until = now()",
             claims.lease_starts_when_the_row_is_had),
    Mutation("claim_due", "the clock in the lease", r"lease_until = clock_timestamp\(\)", "lease_until = now()",
             claims.polled_lease_starts_when_the_row_is_had),
    Mutation("read_states", "the state as it is", r"id, state", "id, case attempt when 0 then state else 'running' end",
             claims.claim_that_got_nothing_is_made_again),
    Mutation("claim_by_ids", "the order of ids", r"order by j\.id", "",
             claims.claims_with_crossing_ids_do_not_deadlock),
    Mutation("claim_by_ids", "SKIP LOCKED on the outbox", SKIPS_TRIGGERS, "from claimed)) for update",
             claims.claim_by_id_does_not_wait_for_a_settlement),
    Mutation("claim_due", "SKIP LOCKED on the outbox", SKIPS_TRIGGERS, "from claimed)) for update",
             claims.polled_claim_does_not_wait_for_a_settlement),
    Mutation("claim_by_ids", "deleting the triggers", r"delete from outboxkit.outbox\n    where", r"\g<0> false and",
             claims.claim_deletes_every_trigger_of_its_job),
    Mutation("claim_due", "deleting the triggers", r"delete from outboxkit.outbox\n    where", r"\g<0> false and",
             claims.claim_deletes_every_trigger_of_its_job),
    Mutation("claim_due", "SKIP LOCKED on the jobs", r"for no key update skip locked", "for no key update",
             claims.pollers_do_not_wait_for_each_other),
    Mutation("claim_due", "a second look at the state", r"and j\.state = 'queued'|for no key update skip locked", "",
             claims.poller_looks_again_at_what_it_locks),
    Mutation("claim_due", "NO KEY", r"for no key update", "for update",
             claims.poller_sees_a_job_whose_child_is_being_inserted),
    Mutation("claim_by_ids", "NO KEY", r"for no key update", "for update",
             claims.claim_by_id_does_not_wait_for_a_child),
    Mutation("claim_by_ids", "forgetting the rescue", r"rescue_at = null,", "",
             claims.claim_forgets_the_rescue_before_it),
    Mutation("claim_due", "forgetting the rescues", r"rescues = 0,", "",
             claims.claim_forgets_the_rescue_before_it),
    Mutation("claim_by_ids", "the producer's limit", r"coalesce\(j\.max_attempts, h\.max_attempts\)", "h.max_attempts",
             claims.claim_raises_the_attempt_and_settles_its_limit),
    Mutation("claim_due", "counting", r"attempt = j\.attempt \+ 1", "attempt = 1",
             claims.claim_raises_the_attempt_and_settles_its_limit),
    Mutation("claim_by_ids", "the kinds", r"and j\.kind = any\(%\(kinds\)s\)|and h\.kind = j\.kind", "",
             claims.claim_leaves_kinds_it_has_no_handler_for),
    Mutation("claim_due", "the kinds", r"and j\.kind = any\(%\(kinds\)s\)|and h\.kind = j\.kind", "",
             claims.claim_leaves_kinds_it_has_no_handler_for),
    Mutation("claim_due", "the due time", r"and j\.run_at <= .*", "",
             claims.claim_leaves_what_is_not_due),
]  # fmt: skip

_FENCED = ["complete_attempts", "end_attempt", "give_back", "heartbeat", "complete_attempt"]
_TOKEN = r"(and|where) (j\.)?attempt = (\w\.attempt|%\(attempt\)s|token)"
_HOLDER = r"and (j\.)?leased_by = (%\(worker\)s|worker)"
_RUNNING = r"and (j\.)?state = 'running'"


def _fence(part: str, pattern: str, replacement: str, scenario: Scenario) -> list[Mutation]:
    """The same part of the fence taken out of every statement that has it."""
    return [
        Mutation(name, part, pattern, replacement, scenario, is_function=name == "complete_attempt") for name in _FENCED
    ]


FENCES = [
    *_fence("the token", _TOKEN, r"\1 true", fences.earlier_attempt_of_the_same_worker_is_refused),
    *_fence("the holder", _HOLDER, "", fences.another_worker_is_refused),
    *_fence("the state", _RUNNING, "", fences.swept_attempt_is_refused),
    Mutation("complete_attempts", "its lock", r"for no key update of j", "",
             fences.completion_that_waited_for_a_sweep_is_refused),
    Mutation("complete_attempt", "the state", _RUNNING, "",
             fences.completion_inside_that_waited_for_a_sweep_is_refused, True),
    Mutation("end_attempt", "the state", _RUNNING, "", fences.retry_that_waited_for_a_sweep_is_refused),
    Mutation("give_back", "its lock", r"for no key update of j", "",
             fences.give_back_that_waited_for_a_sweep_is_refused),
    Mutation("complete_attempt", "raising", r"if not found", "if false",
             fences.handlers_transaction_goes_with_a_lost_lease, True),
    Mutation("complete_attempt", "completing", r"set state = 'succeeded'", "set state = 'running'",
             fences.handlers_transaction_commits_with_its_lease, True),
    Mutation("completion", "its COMMIT in the same message", r";\ncommit", "",
             fences.frozen_process_that_has_sent_its_completion_holds_nothing),
    Mutation("heartbeat", "SKIP LOCKED", r"skip locked", "", fences.heartbeat_does_not_wait_for_a_completion),
    Mutation("heartbeat", "SKIP LOCKED", r"skip locked", "", fences.heartbeat_never_revives_a_swept_lease),
    Mutation("complete_attempts", "the order of ids", r"order by j\.id", "", fences.completions_do_not_deadlock),
    Mutation("give_back", "the order of ids", r"order by j\.id", "", fences.give_backs_do_not_deadlock),
    Mutation("give_back", "raising max_attempts instead", r"max_attempts = max_attempts \+ 1", "attempt = j.attempt - 1",
             fences.give_back_never_lowers_the_attempt),
    Mutation("lost_leases", "the state", r"or j\.state <> 'running'", "", fences.lost_leases_are_told_from_locked_rows),
    Mutation("lost_leases", "the holder", r"or j\.leased_by is distinct from %\(worker\)s", "",
             fences.lost_leases_are_told_from_locked_rows),
    Mutation("lost_leases", "the token", r"or j\.attempt <> h\.attempt", "",
             fences.lost_leases_are_told_from_locked_rows),
]  # fmt: skip

# A re-armed job's trigger takes the first trigger's place, as an upsert on job_id would have it.
_REARM = r"insert into outboxkit\.outbox \(job_id, (.*)\)\n    select id,"
_UPSERT = r"insert into outboxkit.outbox (id, job_id, \1) overriding system value\n    select 1, id,"
_RESET = r"\2 on conflict (id) do update set claims = 0, due_at = excluded.due_at"
_SETTLED_FENCE = r"and o\.claims = s\.claims"
_SETTLEMENTS = ["ack_triggers", "retry_triggers", "give_back_triggers"]

DELIVERIES = [
    Mutation("claim_triggers", "SKIP LOCKED", r"skip locked", "", deliveries.relays_do_not_wait_for_each_other),
    Mutation("claim_triggers", "its lock", r"for update skip locked", "",
             deliveries.trigger_is_claimed_once_until_its_lease_ends),
    Mutation("claim_triggers", "the clock in the lease", r"due_at = clock_timestamp\(\)", "due_at = now()",
             deliveries.triggers_lease_starts_when_the_row_is_had),
    Mutation("claim_triggers", "the due time", r"where due_at <= .*", "where true",
             deliveries.claim_triggers_leaves_what_is_not_due),
    Mutation("claim_triggers", "counting", r"claims = o\.claims \+ 1", "claims = 1",
             deliveries.late_settlement_cannot_touch_a_later_claim),
    *[Mutation(name, "the fence", _SETTLED_FENCE, "", deliveries.late_settlement_cannot_touch_a_later_claim)
      for name in _SETTLEMENTS],
    Mutation("bury_trigger", "the fence", r"and o\.claims = %\(claims\)s", "",
             deliveries.late_settlement_cannot_touch_a_later_claim),
    Mutation("give_back_triggers", "leaving claims alone", r"set due_at", "set claims = o.claims - 1, due_at",
             deliveries.giving_a_trigger_back_keeps_the_fence),
    Mutation("retry_triggers", "leaving claims alone", r"set due_at", "set claims = o.claims - 1, due_at",
             deliveries.trying_a_trigger_again_keeps_the_fence),
    Mutation("give_back_triggers", "the job's time", r"greatest\(clock_timestamp\(\), .*", "clock_timestamp()",
             deliveries.given_back_trigger_is_due_when_its_job_is),
    *[Mutation(name, "SKIP LOCKED", r"skip locked", "", deliveries.settlements_do_not_wait_for_a_claim)
      for name in _SETTLEMENTS],
    Mutation("end_attempt", "a new id", _REARM, _UPSERT, deliveries.late_ack_cannot_delete_the_trigger_of_a_retry),
    Mutation("sweep_expired_leases", "a new id", _REARM, _UPSERT,
             deliveries.late_ack_cannot_delete_the_trigger_of_a_sweep),
    Mutation("give_back", "a new id", _REARM, _UPSERT, deliveries.late_ack_cannot_delete_the_trigger_of_a_give_back),
    Mutation("replay_dead_letter", "a new id", _REARM, _UPSERT, deliveries.late_ack_cannot_delete_the_trigger_of_a_replay),
    Mutation("sweep_stranded", "a new id", _REARM, _UPSERT, deliveries.late_ack_cannot_delete_the_trigger_of_a_rescue),
    Mutation("end_attempt", "a new id", _REARM + r"(.*)", _UPSERT + _RESET,
             deliveries.late_ack_of_a_leftover_cannot_delete_the_next_retrys_trigger),
    Mutation("claim_by_ids", "waiting", r"for no key update", "for no key update skip locked",
             deliveries.duplicate_triggers_claim_leaves_the_retrys_trigger),
    Mutation("bury_trigger", "failing the job", r"set state = 'failed'", "set state = 'queued'",
             deliveries.buried_trigger_takes_its_job_along),
    Mutation("bury_trigger", "looking at the job's state", r"and j\.state = 'queued'", "",
             deliveries.running_jobs_trigger_is_no_dead_letter),
    Mutation("bury_trigger", "a reason for the letter", r"where exists \(select from failed\) or .*", "",
             deliveries.running_jobs_trigger_is_no_dead_letter),
    Mutation("bury_trigger", "locking the job", r"for no key update", "",
             deliveries.burial_after_a_claim_writes_nothing),
    Mutation("claim_by_ids", "a second look at the state", r"and j\.state = 'queued'", "",
             deliveries.claim_that_waited_for_a_burial_gets_nothing),
    Mutation("bury_trigger", "letters for no job", r"or not exists \(select from job\)", "",
             deliveries.trigger_of_no_job_is_buried_with_a_letter),
    Mutation("bury_trigger", "the lock order", r"and \(select count\(\*\) from job\) >= 0", "",
             deliveries.burial_locks_the_job_before_its_trigger),
    Mutation("bury_trigger", "SKIP LOCKED", r"skip locked", "", deliveries.burial_does_not_wait_for_a_settlement),
]  # fmt: skip

# What the statement's snapshot holds, whatever has become of the row since.
_REQUEST_AS_IT_WAS = "(select was.cancel_requested_at from outboxkit.jobs was where was.id = {}.id)"
_STATE_AS_IT_WAS = "(select was.state from outboxkit.jobs was where was.id = j.id)"
_ELECTED = "(select pg_try_advisory_lock(4711)) and"
_LOCK_AND_STATE = r"for no key update skip locked|and j\.state = '\w+'"
_RESCUE_AT = r"rescue_at = clock_timestamp\(\) \+ .*,"

SWEEPING = [
    Mutation("sweep_expired_leases", "SKIP LOCKED", r"skip locked", "",
             sweeping.expired_sweeps_do_not_wait_for_each_other),
    Mutation("sweep_expired_leases", "its lock and the state", _LOCK_AND_STATE, "",
             sweeping.expired_lease_is_swept_once),
    Mutation("sweep_expired_leases", "its lock", r"for no key update skip locked", "",
             sweeping.renewed_lease_is_not_swept),
    Mutation("sweep_expired_leases", "its lock and the state", _LOCK_AND_STATE, "",
             sweeping.completed_job_is_not_swept),
    Mutation("sweep_expired_leases", "its lock", r"for no key update skip locked", "",
             sweeping.lease_put_right_meanwhile_is_not_swept),
    Mutation("sweep_expired_leases", "the request as it is now", r"cancel_requested_at",
             _REQUEST_AS_IT_WAS.format("j"),
             sweeping.expiry_sees_a_cancel_that_came_meanwhile),
    Mutation("sweep_expired_leases", "the lease", r"and \(lease_until < ", "and (true or lease_until < ",
             sweeping.live_lease_is_not_swept),
    Mutation("sweep_expired_leases", "the dead letter", r"from ended where state = 'failed'", "from ended where false",
             sweeping.last_attempts_expiry_is_a_dead_letter),
    Mutation("sweep_expired_leases", "a bound", r"when attempt < max_attempts then 'queued'", "when true then 'queued'",
             sweeping.expiry_is_bounded_by_the_attempts),
    Mutation("sweep_expired_leases", "looking far ahead", r"or lease_until > .*\)", ")",
             sweeping.lease_too_far_ahead_has_expired),
    Mutation("sweep_expired_leases", "the cancellation", r"when cancel_requested_at is not null then 'cancelled'", "",
             sweeping.expiry_of_a_cancelled_job_cancels_it),
    Mutation("sweep_stranded", "its lock", r"for no key update skip locked", "",
             sweeping.stranded_job_is_rearmed_once_by_two_sweeps),
    Mutation("sweep_stranded", "writing rescue_at", _RESCUE_AT, "",
             sweeping.stranded_job_is_rearmed_once_by_two_sweeps),
    # Either would do; without both, the second sweep waits, and does not look for a trigger again.
    Mutation("sweep_stranded", "writing rescue_at, nor SKIP LOCKED", _RESCUE_AT, "",
             sweeping.stranded_job_is_rearmed_once_though_its_sweeps_meet, also=("sweep_stranded", r"skip locked", "")),
    Mutation("sweep_stranded", "SKIP LOCKED", r"skip locked", "", sweeping.stranded_sweeps_do_not_wait_for_each_other),
    Mutation("sweep_stranded", "writing rescue_at", _RESCUE_AT, "",
             sweeping.stranded_job_is_not_rearmed_at_every_sweep),
    Mutation("sweep_stranded", "doubling", r"power\(2, .*\)", "2", sweeping.stranded_job_is_not_rearmed_at_every_sweep),
    Mutation("sweep_stranded", "a cap", r"least\(rescues \+ 1, 10\)", "rescues + 1",
             sweeping.rescues_wait_no_longer_than_a_cap),
    Mutation("sweep_stranded", "looking for a trigger", r"and not exists \(select from outboxkit.outbox .*\)", "",
             sweeping.stranded_job_with_a_trigger_is_left),
    Mutation("sweep_stranded", "a bound", r"case when not s\.hopeless then 'queued'", "case when true then 'queued'",
             sweeping.stranded_too_often_is_a_dead_letter),
    Mutation("sweep_stranded", "the dead letter", r"from swept where state = 'failed'", "from swept where false",
             sweeping.stranded_too_often_is_a_dead_letter),
    Mutation("sweep_stranded", "its lock and the state", _LOCK_AND_STATE, "", sweeping.claimed_job_is_not_rearmed),
    Mutation("claim_by_ids", "forgetting the rescue", r"rescue_at = null,", "",
             sweeping.job_retried_meanwhile_is_not_rearmed),
    Mutation("sweep_expired_leases", "freedom from an election", r"where(?= state = 'running')", f"where {_ELECTED}",
             sweeping.frozen_sweeper_stops_nobody),
    Mutation("sweep_stranded", "freedom from an election", r"where(?= j\.state = 'queued'\n)", f"where {_ELECTED}",
             sweeping.frozen_sweeper_stops_nobody),
    Mutation("sweep_finished_jobs", "freedom from an election", r"where(?= j\.finished_at <)", f"where {_ELECTED}",
             sweeping.frozen_sweeper_stops_nobody),
    Mutation("sweep_stranded", "SKIP LOCKED", r"skip locked", "", sweeping.stranded_sweep_does_not_wait_for_a_claim),
    Mutation("sweep_finished_jobs", "looking for open letters", r"and not exists .*", "",
             sweeping.job_with_an_open_letter_is_kept),
    Mutation("sweep_finished_jobs", "its lock", r"for update skip locked", "", sweeping.replayed_job_is_not_retired),
    Mutation("sweep_finished_jobs", "its lock", r"for update skip locked", "", sweeping.job_that_died_again_is_not_retired),
    Mutation("sweep_replayed_letters", "SKIP LOCKED", r"skip locked", "", sweeping.retention_of_letters_does_not_wait),
    Mutation("sweep_finished_jobs", "SKIP LOCKED", r"skip locked", "", sweeping.retention_does_not_wait),
    Mutation("sweep_finished_jobs", "triggers left over", r"delete from outboxkit\.outbox\n    where", r"\g<0> false and",
             sweeping.trigger_left_over_is_retired_with_its_job),
    Mutation("sweep_records", "SKIP LOCKED", r"skip locked", "", sweeping.retention_of_records_does_not_wait),
]  # fmt: skip

ENDINGS = [
    Mutation("end_attempt", "the trigger", r"from ended where state = 'queued'", "from ended where false",
             endings.retry_writes_one_trigger_for_its_time),
    Mutation("end_attempt", "the dead letter", r"from ended where state = 'failed'", "from ended where false",
             endings.last_failure_is_a_dead_letter),
    Mutation("end_attempt", "finality", r"and not %\(final\)s", "and %(final)s is not null",
             endings.final_failure_does_not_wait_for_the_last_attempt),
    Mutation("end_attempt", "the cancellation", r"when cancel_requested_at is not null then 'cancelled'", "",
             endings.retry_of_a_cancelled_job_cancels_it),
    Mutation("give_back", "the cancellation", r"case when cancel_requested_at is null then 'queued' .*end",
             "case when true then 'queued' end", endings.give_back_of_a_cancelled_job_cancels_it),
    Mutation("cancel_job", "looking at the state again", r"case when j\.state = 'queued' then 'cancelled' else j\.state end",
             "'cancelled'", endings.cancel_that_waited_for_a_claim_asks_the_holder),
    Mutation("claim_by_ids", "a second look at the state", r"and j\.state = 'queued'", "",
             endings.claim_that_waited_for_a_cancel_gets_nothing),
    Mutation("cancel_job", "its lock", r"for no key update", "", endings.cancel_that_waited_for_a_completion_says_so),
    Mutation("cancel_job", "the state as it is now", r"when j\.state = 'queued'", f"when {_STATE_AS_IT_WAS} = 'queued'",
             endings.cancel_that_waited_for_a_retry_cancels_it),
    Mutation("cancel_job", "the state that it locked", r"job\.state in", "j.state in",
             endings.cancel_that_waited_for_a_replay_cancels_it),
    Mutation("end_attempt", "the request as it is now", r"cancel_requested_at", _REQUEST_AS_IT_WAS.format("jobs"),
             endings.retry_that_waited_for_a_cancel_cancels),
    Mutation("give_back", "the request as it is now", r"cancel_requested_at", _REQUEST_AS_IT_WAS.format("j"),
             endings.give_back_that_waited_for_a_cancel_cancels),
    Mutation("cancel_job", "SKIP LOCKED", r"skip locked", "", endings.cancel_does_not_wait_for_a_settlement),
    Mutation("replay_dead_letter", "both fences", r"and (d\.replayed_at is null|j\.state = 'failed')", "",
             endings.replay_by_two_at_once_happens_once),
    Mutation("replay_dead_letter", "the letter's fence", r"and d\.replayed_at is null", "",
             endings.replayed_letter_is_not_replayed_again),
    Mutation("replay_dead_letter", "the job's fence", r"and j\.state = 'failed'", "",
             endings.replay_needs_a_failed_job),
    Mutation("replay_dead_letter", "going on counting", r"max_attempts = case", "attempt = 0, max_attempts = case",
             endings.replay_never_lowers_the_attempt),
    Mutation("replay_dead_letter", "a look at the attempt", r"when j\.attempt = 0", "when false",
             endings.replay_of_a_job_never_claimed_keeps_its_handlers_limit),
    Mutation("replay_dead_letter", "resetting the rescues", r"rescue_at = null, rescues = 0,", "",
             endings.replay_starts_the_rescues_anew),
    Mutation("end_attempt", "a bound for the history", r"errors - 0", "errors",
             endings.history_keeps_the_last_twenty_failures),
]  # fmt: skip

# The tempting single statement: insert … on conflict do nothing, else select, as one CTE.
_LOOP = r"(?s)\n        loop\n.*end loop;"
_ONE_STATEMENT = """
        with written as (
            insert into outboxkit.jobs (id, queue, kind, payload, run_at, unique_key, created_at)
            values (outboxkit.uuid7(), enqueue_job.queue, enqueue_job.kind, enqueue_job.payload, due,
                    enqueue_job.unique_key, at)
            on conflict (kind, unique_key) where unique_key is not null do nothing
            returning id
        )
        select id into job from (
            select id from written
            union all
            select j.id from outboxkit.jobs j
            where j.kind = enqueue_job.kind and j.unique_key = enqueue_job.unique_key
        ) found limit 1;
        if exists (select from outboxkit.outbox where job_id = job) or job is null then
            return job;
        end if;"""


def _function(name: str, without: str, pattern: str, replacement: str, scenario: Scenario) -> Mutation:
    return Mutation(name, without, pattern, replacement, scenario, is_function=True)


ENQUEUEING = [
    _function("enqueue_job", "the loop", _LOOP, _ONE_STATEMENT, enqueueing.same_key_at_once_is_one_job),
    _function("enqueue_job", "a look for the first", r"on conflict .* do nothing", "",
              enqueueing.key_is_kept_within_one_transaction),
    _function("enqueue_job", "the trigger", r"insert into outboxkit\.outbox .*\n.*;", "",
              enqueueing.key_of_a_rolled_back_job_is_free),
    _function("enqueue_job", "the kind", r"where j\.kind = enqueue_job\.kind and", "where",
              enqueueing.key_belongs_to_its_kind),
    _function("enqueue_job", "going round again", r"if job is not null then", "if true then",
              enqueueing.key_whose_holder_is_retired_meanwhile_is_free),
    _function("enqueue_job", "a look for the first", r"on conflict .* do nothing", "",
              enqueueing.key_whose_holder_is_being_retired),
    _function("enqueue_job", "a look for the first", r"on conflict .* do nothing", "",
              enqueueing.serializable_producer_is_asked_to_try_again),
    _function("enqueue_jobs", "the order of keys", r'order by kind collate "C", unique_key collate "C", n', "order by n",
              enqueueing.crossing_keys_do_not_deadlock),
    _function("enqueue_jobs", "the caller's order", r"ids\[new\.n\] := ", "ids := ids || ",
              enqueueing.ids_come_back_in_the_callers_order),
    _function("enqueue_job", "the trigger", r"insert into outboxkit\.outbox .*\n.*;", "",
              enqueueing.rolled_back_job_leaves_no_trigger),
]  # fmt: skip

MUTATIONS: list[Mutation] = [*CLAIMS, *FENCES, *DELIVERIES, *SWEEPING, *ENDINGS, *ENQUEUEING]
