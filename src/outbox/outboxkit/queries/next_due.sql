-- Seconds until the next trigger is due; no row when there is none. The queues are chosen as in claim_triggers.
-- (greatest() passes over a null, so an empty outbox must not get that far.)
select greatest(0, extract(epoch from next.due_at - clock_timestamp()))::float8
from (
    select min(due_at) as due_at
    from outboxkit.outbox
    where queue <> all(%(paused)s::text[])
      and (%(only)s::text[] is null or queue = any(%(only)s::text[]))
) as next
where next.due_at is not null
