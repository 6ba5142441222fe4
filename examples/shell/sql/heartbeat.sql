-- Extends the lease and stores progress (JSON, or empty: as it was). Says whether the job is to be cancelled.
-- No row: lost, or just locked by somebody; read_state tells which.
with mine as materialized (
    select j.id
    from outboxkit.jobs j
    where j.id = :'job' and j.attempt = :'attempt' and j.leased_by = :'worker' and j.state = 'running'
    -- † SKIP LOCKED: what is just being completed or swept needs no heartbeat, and must not hold up the others.
    for no key update skip locked
)
update outboxkit.jobs j
set lease_until = clock_timestamp() + make_interval(secs => :'lease'),
    progress = coalesce(nullif(:'progress', '')::jsonb, j.progress)
where j.id = any(array(select id from mine))
returning j.id, j.cancel_requested_at is not null as cancelled;
