-- Cancels a queued job and deletes its triggers, or asks a running one to stop. Returns the state it is in now, and
-- whether this asked for anything; no row: no such job.
with job as materialized (
    -- † jobs before outbox, always.
    select id, state from outboxkit.jobs where id = :'job' for no key update
),
asked as (
    update outboxkit.jobs j
    set state = case when j.state = 'queued' then 'cancelled' else j.state end,
        finished_at = case when j.state = 'queued' then clock_timestamp() else j.finished_at end,
        cancel_requested_at = coalesce(j.cancel_requested_at, clock_timestamp())
    from job
    -- † The state as it was locked: a replay may have queued the job while this waited.
    where j.id = job.id and job.state in ('queued', 'running')
    returning j.id, j.state
),
triggers as (
    -- † SKIP LOCKED: a trigger that is just being settled is left, and finds a cancelled job.
    delete from outboxkit.outbox
    where id = any(array(
        select o.id from outboxkit.outbox o
        where o.job_id = any(array(select id from asked where state = 'cancelled'))
        for update skip locked
    ))
)
select coalesce(asked.state, job.state) as state, asked.id is not null as asked
from job left join asked on asked.id = job.id;
