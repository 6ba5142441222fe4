-- Gives back claimed triggers that were not sent (shutdown, a breaker that opened): due at once, nothing counted, but a job
-- that is scheduled ahead stays so. claims is not reduced: it is the fence.
with mine as materialized (
    select o.id
    from outboxkit.outbox o
    join unnest(%(ids)s::bigint[], %(claims)s::integer[]) as s (id, claims) on s.id = o.id
    where o.id = any(%(ids)s) and o.claims = s.claims
    for update of o skip locked
)
update outboxkit.outbox o
set due_at = greatest(clock_timestamp(), (select j.run_at from outboxkit.jobs j where j.id = o.job_id))
where o.id = any(array(select id from mine))
returning o.id
