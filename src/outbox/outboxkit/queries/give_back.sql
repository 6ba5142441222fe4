-- Gives running attempts back unharmed (shutdown): queued at once, with a trigger. Returns the ids given back.
with mine as materialized (
    select j.id
    from outboxkit.jobs j
    join unnest(%(ids)s::uuid[], %(attempts)s::integer[]) as g (id, attempt) on g.id = j.id
    where j.id = any(%(ids)s) and j.attempt = g.attempt and j.leased_by = %(worker)s and j.state = 'running'
    -- † In ascending id, as every statement that locks several jobs.
    order by j.id
    for no key update of j
),
given as (
    update outboxkit.jobs j
    set state = case when cancel_requested_at is null then 'queued' else 'cancelled' end,
        finished_at = case when cancel_requested_at is null then null else clock_timestamp() end,
        run_at = clock_timestamp(),
        lease_until = null,
        -- † One attempt more allowed, never one less counted: a lower attempt would give two workers the same token.
        max_attempts = max_attempts + 1
    where j.id = any(array(select id from mine))
    returning j.id, j.queue, j.kind, j.traceparent, j.run_at, j.state
),
requeued as (
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    select id, queue, kind, traceparent, run_at, clock_timestamp() from given where state = 'queued'
)
select id from given
