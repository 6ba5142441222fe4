"""As mutations.py, for what a transport takes over to deliver later."""

from integration.outbox.mutations import Mutation, Scenario
from integration.outbox.scenarios import handing_over as scenes


def _hand_over(without: str, pattern: str, replacement: str, scenario: Scenario) -> Mutation:
    return Mutation("hand_over_triggers", without, pattern, replacement, scenario)


def _sweep(
    without: str,
    pattern: str,
    scenario: Scenario = scenes.no_job_is_failed_while_its_worker_is_away,
    replacement: str = "",
    also: tuple[str, str, str] | None = None,
) -> Mutation:
    return Mutation("sweep_stranded", without, pattern, replacement, scenario, also=also)


def _claim(without: str, pattern: str, replacement: str, scenario: Scenario) -> Mutation:
    return Mutation("claim_triggers", without, pattern, replacement, scenario)


HAND_OVERS = [
    _hand_over("the time to look", r"rescue_at = greatest.*,", "rescue_at = null,",
               scenes.job_handed_over_is_looked_after),
    _hand_over("the task's name", r"else m\.id", "else null", scenes.job_handed_over_is_looked_after),
    _hand_over("the job's time", r"greatest\(j\.run_at, clock_timestamp\(\)\)", "clock_timestamp()",
               scenes.scheduled_job_is_looked_for_after_its_time),
    _hand_over("doubling", r"power\(2, .*\)", "1", scenes.rescued_job_is_looked_for_later_each_time),
    _hand_over("the fence", r"and o\.claims = s\.claims", "", scenes.late_hand_over_leaves_a_later_claims_row),
    _hand_over("the state", r"and j\.state = 'queued'", "", scenes.running_job_is_not_looked_after),
    _hand_over("SKIP LOCKED on the jobs", r"(for no key update) skip locked", r"\1",
               scenes.hand_over_does_not_wait_for_a_claim),
    _hand_over("the job's lock", r"and \(o\.job_id = any[^;]*?where j\.id = o\.job_id\)\)", "",
               scenes.hand_over_does_not_wait_for_a_claim),
    _hand_over("SKIP LOCKED on the outbox", r"for update of o skip locked", "for update of o",
               scenes.hand_over_does_not_wait_for_a_settlement),
    _hand_over("NO KEY", r"for no key update", "for update", scenes.hand_over_is_not_stopped_by_a_child),
    _hand_over("jobs that are gone", r"or not exists .*", ")", scenes.row_of_a_job_that_is_gone_is_settled),
    _hand_over("the clock", r"clock_timestamp\(\)", "now()", scenes.time_to_look_is_counted_from_the_settlement),
    _hand_over("the earlier name", r"when m\.found then j\.handed_over", "when false then j.handed_over",
               scenes.task_that_is_still_there_keeps_its_name),
    _hand_over("sparing what waits", r"when m\.waiting then", "when false then",
               scenes.task_that_was_never_dispatched_is_not_held_against_its_job),
    _hand_over("counting anew", r"when j\.rescues = 0 then 0", "", scenes.excuses_are_counted_anew_after_a_claim),
    _sweep("sparing what waits", r" - j\.excused", scenes.task_that_was_never_dispatched_is_not_held_against_its_job),
    _hand_over("counting what was tried", r"when m\.waiting then", "when true then",
               scenes.task_that_was_never_dispatched_is_not_held_against_its_job),
    _sweep("evidence", r"s\.is_last and coalesce\(d\.last > s\.since, false\)", replacement="s.is_last"),
    _sweep("the queue of the evidence", r"and d\.queue = s\.queue"),
    _sweep("the time of the evidence", r"d\.finished_at > min\(s\.since\)", replacement="true",
           also=("sweep_stranded", r"d\.last > s\.since", "d.last is not null")),
    _sweep("success as the evidence", r"d\.state = 'succeeded' and"),
    _sweep("each job's own time", r"d\.last > s\.since", scenes.success_counts_only_for_what_was_handed_over_before_it,
           replacement="d.last is not null"),
    _sweep("excusing", r"excused = case when s\.counts .*,", scenes.worker_that_comes_back_finds_its_backlog),
    _hand_over("excusing once", r"least\(j\.excused \+ 1, j\.rescues\)", "j.excused + 1",
               scenes.excuses_are_counted_anew_after_a_claim),
    _claim("the range", r"where due_at <= .*", "where true", scenes.scheduled_trigger_is_claimed_ahead),
    _claim("claiming ahead", r"coalesce\(%\(ahead\)s::interval, interval '0'\)", "interval '0'",
           scenes.scheduled_trigger_is_claimed_ahead),
    _claim("a time only where one is ahead", r"case when j\.run_at > clock_timestamp\(\) then (.*) end as",
           r"\1 as", scenes.trigger_that_is_due_has_no_schedule),
    _claim("leaving the claimed", r"and \(%\(ahead\)s::interval is null or .*", "",
           scenes.claimed_trigger_is_not_claimed_ahead),
    _claim("the predecessor of a rescue alone", r"case when j\.rescues > 0 then j\.handed_over end", "j.handed_over",
           scenes.rescued_trigger_knows_its_predecessor),
]  # fmt: skip
