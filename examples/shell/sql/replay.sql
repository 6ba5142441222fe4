-- Replays a dead letter: its job is queued again with so many attempts more. No row: there is nothing to replay.
with job as materialized (
    -- † jobs before outbox before dead_letters.
    select j.id
    from outboxkit.jobs j
    where j.id = (select d.job_id from outboxkit.dead_letters d where d.id = :'letter' and d.replayed_at is null)
      and j.state = 'failed'
    for no key update
),
letter as (
    update outboxkit.dead_letters d
    set replayed_at = clock_timestamp(), replayed_by = :'actor'
    from job
    -- † Looked at again: of two people pressing at once one does it.
    where d.id = :'letter' and d.replayed_at is null and d.job_id = job.id
    returning d.job_id
),
requeued as (
    update outboxkit.jobs j
    set state = 'queued', run_at = clock_timestamp(), finished_at = null, cancel_requested_at = null,
        rescue_at = null, rescues = 0,
        -- † More attempts allowed, never fewer counted. A job that was never claimed has them all.
        max_attempts = case
            when j.attempt = 0 then j.max_attempts else greatest(j.max_attempts, j.attempt + :'attempts')
        end
    from letter
    where j.id = letter.job_id and j.state = 'failed'
    returning j.id, j.queue, j.kind, j.traceparent, j.run_at
),
triggers as (
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    select id, queue, kind, traceparent, run_at, clock_timestamp() from requeued
)
select id from requeued;
