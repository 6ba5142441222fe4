-- Claims one job if it is queued, due and of one of our kinds. A row: it is ours. No row: read_state tells why.
with wanted as materialized (
    select j.id
    from outboxkit.jobs j
    where j.id = :'job'
      and j.state = 'queued'
      -- † clock_timestamp(), not now(): looked at again after a lock wait, however long that was.
      and j.run_at <= clock_timestamp() + interval '2 seconds'
      and j.kind in (select jsonb_object_keys(:'kinds'))
    -- † Waits, never SKIP LOCKED: whoever holds the row may roll back, and nobody else would come for the job.
    -- † NO KEY: a child row with a foreign key to the job may be inserted meanwhile.
    for no key update
),
claimed as (
    update outboxkit.jobs j
    set state = 'running',
        attempt = j.attempt + 1,
        max_attempts = coalesce(j.max_attempts, (:'kinds'::jsonb ->> j.kind)::integer),
        lease_until = clock_timestamp() + make_interval(secs => :'lease'),
        leased_by = :'worker',
        rescue_at = null,
        rescues = 0,
        started_at = clock_timestamp()
    where j.id = (select id from wanted) and j.state = 'queued'
    returning j.id, j.attempt, j.max_attempts, j.kind, j.payload, j.queue, j.traceparent
),
triggers as (
    -- † SKIP LOCKED: a relay may be settling one of these; a row left over costs one harmless trigger.
    delete from outboxkit.outbox
    where id = any(array(
        select o.id from outboxkit.outbox o where o.job_id = any(array(select id from claimed)) for update skip locked
    ))
)
select id, attempt, max_attempts, kind, payload::text, queue, traceparent from claimed;
