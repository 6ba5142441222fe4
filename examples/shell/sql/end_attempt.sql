-- Ends an attempt that did not succeed: queued again after :delay seconds while attempts are left and it is not :final,
-- else failed with its dead letter; cancelled if that was asked for. No row: the lease was lost, and nothing was written.
with mine as materialized (
    -- † Locked before the clock is read: what the update computes would otherwise be as old as its wait for the row.
    select id
    from outboxkit.jobs
    where id = :'job' and attempt = :'attempt' and leased_by = :'worker' and state = 'running'
    for no key update
),
ended as (
    update outboxkit.jobs
    set state = case
            when cancel_requested_at is not null then 'cancelled'
            when attempt < max_attempts and not :'final' then 'queued'
            else 'failed'
        end,
        run_at = case
            when cancel_requested_at is null and attempt < max_attempts and not :'final'
            then clock_timestamp() + make_interval(secs => :'delay')
            else run_at
        end,
        finished_at = case
            when cancel_requested_at is null and attempt < max_attempts and not :'final' then null
            else clock_timestamp()
        end,
        lease_until = null,
        -- Failures only, the last twenty.
        errors = case when jsonb_array_length(errors) >= 20 then errors - 0 else errors end
            || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'reason', :'reason'::text,
                                  'error', :'error'::text)
    where id = (select id from mine)
    returning id, queue, kind, traceparent, state, attempt, run_at
),
requeued as (
    -- † A new row, never the old one again: a late acknowledgement of the old trigger must not delete this one.
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    select id, queue, kind, traceparent, run_at, clock_timestamp() from ended where state = 'queued'
),
buried as (
    -- † In the same statement: a failed job without its letter would vanish from sight.
    insert into outboxkit.dead_letters (job_id, queue, kind, stage, reason, attempts, last_error, died_at)
    select id, queue, kind, 'job', :'reason', attempt, :'error', clock_timestamp() from ended where state = 'failed'
)
select state, attempt, run_at from ended;
