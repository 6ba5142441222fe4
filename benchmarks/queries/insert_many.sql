-- Floor of enqueue_many: all rows of both tables in one statement.
with input as materialized (
    select * from unnest(%(ids)s::uuid[], %(payloads)s::text[], %(traceparents)s::text[]) as t (id, payload, traceparent)
),
job as (
    insert into outboxkit.jobs (id, queue, kind, payload, run_at, traceparent, created_at)
    select id, 'default', %(kind)s, payload::jsonb, clock_timestamp(), traceparent, clock_timestamp() from input
)
insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
select id, 'default', %(kind)s, traceparent, clock_timestamp(), clock_timestamp() from input
