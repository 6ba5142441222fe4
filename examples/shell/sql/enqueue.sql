-- Enqueues a job in the transaction that is open. Returns its id.
select outboxkit.enqueue_job(
    kind         => :'kind',
    payload      => :'payload',
    queue        => :'queue',
    run_at       => nullif(:'run_at', '')::timestamptz,
    unique_key   => nullif(:'unique_key', ''),
    max_attempts => nullif(:'max_attempts', '')::integer,
    traceparent  => nullif(:'traceparent', '')
);
