-- Through SQLAlchemy, on the caller's connection and any driver: every value that a driver might send in a form of its own is
-- sent as text and cast here.
select outboxkit.enqueue_job(
    kind => cast(:kind as text),
    payload => cast(cast(:payload as text) as jsonb),
    queue => cast(:queue as text),
    run_at => cast(cast(:run_at as text) as timestamptz),
    unique_key => cast(:unique_key as text),
    max_attempts => cast(:max_attempts as integer),
    traceparent => cast(:traceparent as text)
)
