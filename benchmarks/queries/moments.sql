-- When each job was enqueued and claimed, and what its handler's clock said, in seconds since 1970.
select /* harness */ id,
       extract(epoch from created_at)::float8 as created,
       extract(epoch from started_at)::float8 as started,
       result::float8 as handled
from outboxkit.jobs where state = 'succeeded' and traceparent is not null
