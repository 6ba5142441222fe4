-- Settles delivered triggers: deletes the rows that are still claimed as they were. Returns the ids deleted.
with mine as materialized (
    select o.id
    from outboxkit.outbox o
    join unnest(%(ids)s::bigint[], %(claims)s::integer[]) as s (id, claims) on s.id = o.id
    -- The fence: a row claimed again since belongs to another delivery.
    where o.id = any(%(ids)s) and o.claims = s.claims
    -- † SKIP LOCKED: a worker's claim may be deleting these very rows, in another order; what it has it may keep.
    for update of o skip locked
)
delete from outboxkit.outbox o where o.id = any(array(select id from mine))
returning o.id
