-- A trigger's death, fenced: its outbox row goes, its dead letter is written, and its job moves from queued to failed.
-- If the fence misses, nothing is written. If the job is no longer queued, only the row goes (†: it runs or has ended; a
-- letter would be a lie). A job that does not exist at all gets its letter too. Returns what was done.
with job as materialized (
    -- † Locked first: jobs before outbox, always.
    select j.id, j.state from outboxkit.jobs j where j.id = %(job_id)s for no key update
),
gone as (
    delete from outboxkit.outbox
    where id = (
        -- The count is taken first, so the job's row is locked before this one.
        select o.id from outboxkit.outbox o
        where o.id = %(id)s and o.claims = %(claims)s and (select count(*) from job) >= 0
        for update skip locked
    )
    returning job_id, queue, kind, attempts
),
failed as (
    update outboxkit.jobs j
    set state = 'failed', finished_at = clock_timestamp(),
        errors = case when jsonb_array_length(errors) >= 20 then errors - 0 else errors end
            || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'reason', %(reason)s::text,
                                  'error', %(error)s::text)
    from gone
    -- † The job fails with its trigger: left queued, a sweep or a poller would run what a person sees as dead.
    where j.id = gone.job_id and j.state = 'queued'
    returning j.id
),
buried as (
    insert into outboxkit.dead_letters (job_id, queue, kind, stage, reason, attempts, last_status, last_error, died_at)
    select g.job_id, g.queue, g.kind, 'trigger', %(reason)s, g.attempts + %(counted)s, %(status)s::integer,
           %(error)s::text, clock_timestamp()
    from gone g
    where exists (select from failed) or not exists (select from job)
    returning id
)
select (select count(*) from gone) as gone, (select count(*) from buried) as buried
