-- From the first handler's start to the last job's end, in seconds, by the database's clock; and how many jobs succeeded.
-- The history has no trace, the jobs that were enqueued have one.
select /* harness */ extract(epoch from max(finished_at) - min(started_at))::float8 as seconds,
       count(*) filter (where state = 'succeeded') as succeeded
from outboxkit.jobs where traceparent is not null
