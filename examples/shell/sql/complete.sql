-- Completes the attempt, with a result (JSON, or empty). No row: the lease was lost, and the result counts for nothing.
update outboxkit.jobs j
set state = 'succeeded', result = nullif(:'result', '')::jsonb, lease_until = null, finished_at = clock_timestamp()
where j.id = :'job' and j.attempt = :'attempt' and j.leased_by = :'worker' and j.state = 'running'
returning j.id, j.state;
