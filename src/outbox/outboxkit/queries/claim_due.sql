-- Claims up to %(slots)s jobs that have been due for %(overdue)s, the longest due first. For pollers: nobody waits for
-- anybody, a row that somebody else is taking is passed over.
-- Ids are handed on as arrays (`= any(array(…))`), not as joins: whatever the statistics say of a table that was empty when
-- they were made, Postgres looks the rows up by index, and never joins a whole table with them.
with wanted as materialized (
    select j.id
    from outboxkit.jobs j
    where j.state = 'queued'
      -- A scalar subquery, so that it bounds the index scan: a volatile function in its place would walk every future job.
      and j.run_at <= (select clock_timestamp()) - %(overdue)s
      and j.kind = any(%(kinds)s)
      -- What an old handler of the same process is still at work on.
      and j.id <> all(%(excluded)s::uuid[])
    order by j.run_at, j.id
    limit %(slots)s
    for no key update skip locked
),
claimed as (
    update outboxkit.jobs j
    set state = 'running',
        attempt = j.attempt + 1,
        max_attempts = coalesce(j.max_attempts, h.max_attempts),
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
    -- † SKIP LOCKED, as in claim_by_ids.
    delete from outboxkit.outbox
    where id = any(array(
        select o.id from outboxkit.outbox o where o.job_id = any(array(select id from claimed)) for update skip locked
    ))
)
select id, queue, kind, payload, attempt, max_attempts, run_at, created_at, traceparent from claimed
