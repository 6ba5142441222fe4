-- Claims those of the jobs %(ids)s that are queued, due and of a kind this worker has a handler for. Returns them.
-- Ids are handed on as arrays (`= any(array(…))`), not as joins: whatever the statistics say of a table that was empty when
-- they were made, Postgres looks the rows up by index, and never joins a whole table with them.
with wanted as materialized (
    select j.id
    from outboxkit.jobs j
    where j.id = any(%(ids)s)
      and j.state = 'queued'
      -- † clock_timestamp(), not now(): this is looked at again after a lock wait, however long that was.
      and j.run_at <= clock_timestamp() + %(early)s
      and j.kind = any(%(kinds)s)
    -- † In ascending id, as every statement that locks several jobs: two claims with common ids cannot deadlock.
    order by j.id
    -- † Waits, never SKIP LOCKED: a claim that passed over a locked row would be answered "running elsewhere", the
    -- relay would delete the trigger, and if the lock's holder rolls back the job is stranded.
    -- NO KEY UPDATE: a child row with a foreign key to the job may be inserted meanwhile.
    for no key update
),
claimed as (
    update outboxkit.jobs j
    set state = 'running',
        attempt = j.attempt + 1,
        max_attempts = coalesce(j.max_attempts, h.max_attempts),
        -- † The lease starts when the row was had, not when the statement began to wait for it.
        lease_until = clock_timestamp() + %(lease)s,
        leased_by = %(worker)s,
        rescue_at = null,
        rescues = 0,
        started_at = clock_timestamp()
    from unnest(%(kinds)s::text[], %(max_attempts)s::integer[]) as h (kind, max_attempts)
    where j.id = any(array(select id from wanted)) and j.state = 'queued' and h.kind = j.kind
    returning j.id, j.queue, j.kind, j.payload::text as payload, j.attempt, j.max_attempts, j.run_at, j.created_at,
              j.traceparent
),
triggers as (
    -- † SKIP LOCKED: a relay may be settling one of these rows while it waits for nothing of ours; a row left over costs
    -- one harmless trigger.
    delete from outboxkit.outbox
    where id = any(array(
        select o.id from outboxkit.outbox o where o.job_id = any(array(select id from claimed)) for update skip locked
    ))
)
select id, queue, kind, payload, attempt, max_attempts, run_at, created_at, traceparent from claimed
