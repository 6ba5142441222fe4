-- How many triggers are due now. The queues are chosen as in claim_triggers.
select count(*)
from outboxkit.outbox
where due_at <= (select clock_timestamp())
  and queue <> all(%(paused)s::text[])
  and (%(only)s::text[] is null or queue = any(%(only)s::text[]))
