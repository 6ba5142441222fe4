-- Claims up to :slots jobs of our kinds that have been due for :overdue seconds, the longest due first.
with wanted as materialized (
    select j.id
    from outboxkit.jobs j
    where j.state = 'queued'
      -- A scalar subquery bounds the index scan; a volatile function in its place would walk every future job.
      and j.run_at <= (select clock_timestamp()) - make_interval(secs => :'overdue')
      and j.kind in (select jsonb_object_keys(:'kinds'))
    order by j.run_at, j.id
    limit :'slots'
    -- † SKIP LOCKED: pollers wait for nobody, and what somebody else is taking is passed over.
    for no key update skip locked
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
    where j.id = any(array(select id from wanted)) and j.state = 'queued'
    returning j.id, j.attempt, j.max_attempts, j.kind, j.payload, j.queue, j.traceparent
),
triggers as (
    -- † SKIP LOCKED, as in claim_by_id.
    delete from outboxkit.outbox
    where id = any(array(
        select o.id from outboxkit.outbox o where o.job_id = any(array(select id from claimed)) for update skip locked
    ))
)
select id, attempt, max_attempts, kind, payload::text, queue, traceparent from claimed;
