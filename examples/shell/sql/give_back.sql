-- Gives a running attempt back unharmed (shutdown): queued at once, and not counted. No row: the lease was lost.
with mine as materialized (
    select j.id
    from outboxkit.jobs j
    where j.id = :'job' and j.attempt = :'attempt' and j.leased_by = :'worker' and j.state = 'running'
    for no key update
),
given as (
    update outboxkit.jobs j
    set state = case when cancel_requested_at is null then 'queued' else 'cancelled' end,
        finished_at = case when cancel_requested_at is null then null else clock_timestamp() end,
        run_at = clock_timestamp(),
        lease_until = null,
        -- † One attempt more allowed, never one less counted: a lower attempt would give two workers the same token.
        max_attempts = max_attempts + 1
    where j.id = (select id from mine)
    returning j.id, j.queue, j.kind, j.traceparent, j.run_at, j.state
),
requeued as (
    -- † A new row, as in end_attempt.
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    select id, queue, kind, traceparent, run_at, clock_timestamp() from given where state = 'queued'
)
select id, state from given;
