-- Ends an attempt that did not succeed: to queued with a new trigger while attempts remain, else to failed with its dead
-- letter, or to cancelled when somebody asked for that. One statement, fenced: zero rows means the lease was lost and
-- nothing was written. %(final)s: the handler said that trying again is no use.
with mine as materialized (
    -- Locked before the clock is read: what the update computes would otherwise be as old as its wait for the row.
    select id
    from outboxkit.jobs
    where id = %(id)s and attempt = %(attempt)s and leased_by = %(worker)s and state = 'running'
    for no key update
),
ended as (
    update outboxkit.jobs
    set state = case
            when cancel_requested_at is not null then 'cancelled'
            when attempt < max_attempts and not %(final)s then 'queued'
            else 'failed'
        end,
        run_at = case
            when cancel_requested_at is null and attempt < max_attempts and not %(final)s
            then clock_timestamp() + %(delay)s
            else run_at
        end,
        finished_at = case
            when cancel_requested_at is null and attempt < max_attempts and not %(final)s then null
            else clock_timestamp()
        end,
        lease_until = null,
        -- Failures only, the last twenty.
        errors = case when jsonb_array_length(errors) >= 20 then errors - 0 else errors end
            || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'reason', %(reason)s::text,
                                  'error', %(error)s::text)
    where id = (select id from mine)
    returning id, queue, kind, traceparent, state, attempt, run_at
),
requeued as (
    -- † A new id, never the old row again: a late acknowledgement of the old trigger must not delete this one.
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    select id, queue, kind, traceparent, run_at, clock_timestamp() from ended where state = 'queued'
),
buried as (
    insert into outboxkit.dead_letters (job_id, queue, kind, stage, reason, attempts, last_error, died_at)
    select id, queue, kind, 'job', %(reason)s, attempt, %(error)s, clock_timestamp() from ended where state = 'failed'
)
select state, attempt, run_at from ended
