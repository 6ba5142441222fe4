-- Takes up to %(batch)s running jobs from holders whose lease ran out: back to queued with a trigger while attempts
-- remain, else failed with a dead letter. Returns the state each got.
with expired as materialized (
    select id
    from outboxkit.jobs
    where state = 'running'
      and (lease_until < (select clock_timestamp())
           -- Further ahead than any lease can be: a clock stepped back since it was written.
           or lease_until > (select clock_timestamp()) + %(longest)s)
    order by lease_until
    limit %(batch)s
    for no key update skip locked
),
ended as (
    update outboxkit.jobs j
    set state = case
            when cancel_requested_at is not null then 'cancelled'
            -- † Bounded: a payload that kills its worker must not kill them all, for ever.
            when attempt < max_attempts then 'queued'
            else 'failed'
        end,
        run_at = case
            when cancel_requested_at is null and attempt < max_attempts then clock_timestamp() else run_at
        end,
        finished_at = case
            when cancel_requested_at is null and attempt < max_attempts then null else clock_timestamp()
        end,
        lease_until = null,
        errors = case when jsonb_array_length(errors) >= 20 then errors - 0 else errors end
            || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'reason', 'lease-expired',
                                  'error', 'worker ' || leased_by || ' stopped renewing its lease')
    where j.id = any(array(select id from expired)) and j.state = 'running'
    returning j.id, j.queue, j.kind, j.traceparent, j.state, j.attempt, j.run_at, j.leased_by
),
requeued as (
    -- † A new id, as in end_attempt.
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    select id, queue, kind, traceparent, run_at, clock_timestamp() from ended where state = 'queued'
),
buried as (
    -- † In the statement that fails the job: a failed job without its letter would vanish from sight.
    insert into outboxkit.dead_letters (job_id, queue, kind, stage, reason, attempts, last_error, died_at)
    select id, queue, kind, 'job', 'lease-expired', attempt,
           'worker ' || leased_by || ' stopped renewing its lease', clock_timestamp()
    from ended where state = 'failed'
)
select id, state, attempt, traceparent from ended
