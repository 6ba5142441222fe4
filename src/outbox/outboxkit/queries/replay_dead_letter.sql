-- Replays one dead letter: its failed job is queued again with a new trigger. Fenced by replayed_at and the job's state, so
-- that of two people pressing at once one does it. No row: nothing to replay (gone, replayed already, or not failed).
with job as materialized (
    -- † jobs before outbox before dead_letters.
    select j.id
    from outboxkit.jobs j
    where j.id = (select d.job_id from outboxkit.dead_letters d where d.id = %(id)s and d.replayed_at is null)
      and j.state = 'failed'
    for no key update
),
letter as (
    update outboxkit.dead_letters d
    set replayed_at = clock_timestamp(), replayed_by = %(actor)s
    from job
    where d.id = %(id)s and d.replayed_at is null and d.job_id = job.id
    returning d.job_id
),
requeued as (
    update outboxkit.jobs j
    set state = 'queued', run_at = clock_timestamp(), finished_at = null, cancel_requested_at = null,
        rescue_at = null, rescues = 0,
        -- † attempt is the fencing token and never falls: more attempts are allowed instead. A job that was never claimed
        -- (its trigger died) has them all: its limit stays, and where there is none yet its handler's will apply.
        max_attempts = case
            when j.attempt = 0 then j.max_attempts else greatest(j.max_attempts, j.attempt + %(attempts)s)
        end
    from letter
    where j.id = letter.job_id and j.state = 'failed'
    returning j.id, j.queue, j.kind, j.traceparent, j.run_at, j.max_attempts
),
triggers as (
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    select id, queue, kind, traceparent, run_at, clock_timestamp() from requeued
)
select id from requeued
