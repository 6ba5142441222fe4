-- Settles triggers that are to be tried again, each after its own delay (seconds), with the failures that count added up.
-- Fenced and SKIP LOCKED as ack_triggers. Returns the ids.
with mine as materialized (
    select o.id, s.delay, s.counted, s.error
    from outboxkit.outbox o
    join unnest(%(ids)s::bigint[], %(claims)s::integer[], %(delays)s::float8[], %(counted)s::integer[], %(errors)s::text[])
      as s (id, claims, delay, counted, error) on s.id = o.id
    where o.id = any(%(ids)s) and o.claims = s.claims
    for update of o skip locked
)
update outboxkit.outbox o
set due_at = clock_timestamp() + make_interval(secs => m.delay),
    attempts = o.attempts + m.counted,
    last_error = coalesce(m.error, o.last_error)
from mine m
where o.id = m.id and o.id = any(%(ids)s)
returning o.id
