-- Floor of enqueue: both rows in one statement, without the function and its checks. Placeholders are SQLAlchemy's.
with job as (
    insert into outboxkit.jobs (id, queue, kind, payload, run_at, traceparent, created_at)
    values (:id, 'default', :kind, :payload, clock_timestamp(), :traceparent, clock_timestamp())
)
insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
values (:id, 'default', :kind, :traceparent, clock_timestamp(), clock_timestamp())
