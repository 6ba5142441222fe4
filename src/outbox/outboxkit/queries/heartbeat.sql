-- Extends the leases a worker holds and stores progress. Returns the ids extended and whether each is to be cancelled.
with mine as materialized (
    select j.id, h.progress
    from outboxkit.jobs j
    join unnest(%(ids)s::uuid[], %(attempts)s::integer[], %(progress)s::text[]) as h (id, attempt, progress)
      on h.id = j.id
    where j.id = any(%(ids)s) and j.attempt = h.attempt and j.leased_by = %(worker)s and j.state = 'running'
    order by j.id
    -- † SKIP LOCKED: against a batch of completions that locks the same rows this would deadlock, and a row that is being
    -- completed needs no heartbeat.
    for no key update of j skip locked
)
update outboxkit.jobs j
set lease_until = clock_timestamp() + %(lease)s,
    progress = coalesce(m.progress::jsonb, j.progress)
from mine m
where j.id = m.id and j.id = any(%(ids)s)
returning j.id, j.cancel_requested_at is not null as cancelled
