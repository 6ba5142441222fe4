-- Completes attempts that hold their lease: (id, attempt, worker) is the fencing token. Returns the ids completed; one that
-- is missing lost its lease, and whatever it found out counts for nothing.
with mine as materialized (
    select j.id, d.result
    from outboxkit.jobs j
    join unnest(%(ids)s::uuid[], %(attempts)s::integer[], %(results)s::text[]) as d (id, attempt, result) on d.id = j.id
    where j.id = any(%(ids)s) and j.attempt = d.attempt and j.leased_by = %(worker)s and j.state = 'running'
    -- † In ascending id: a claim of several ids may hold one of these rows and wait for another.
    order by j.id
    for no key update of j
)
update outboxkit.jobs j
set state = 'succeeded', result = m.result::jsonb, lease_until = null, finished_at = clock_timestamp()
from mine m
where j.id = m.id and j.id = any(%(ids)s)
returning j.id
