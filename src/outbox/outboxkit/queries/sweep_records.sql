-- Retention of what only describes: roll-ups, processes gone for a day, answers kept for idempotency, the audit trail. Up to
-- %(batch)s rows of each; returns how many of that table it was that had the most.
-- SKIP LOCKED: whoever holds one of these rows must not hold up the healing that this process does next.
with stats as (
    delete from outboxkit.trigger_stats
    where ctid = any(array(
        select ctid from outboxkit.trigger_stats where minute < clock_timestamp() - %(keep)s
        limit %(batch)s for update skip locked
    ))
    returning 1
),
gone as (
    delete from outboxkit.processes
    where ctid = any(array(
        select ctid from outboxkit.processes where seen_at < clock_timestamp() - interval '1 day'
        limit %(batch)s for update skip locked
    ))
    returning 1
),
answers as (
    delete from outboxkit.idempotency_keys
    where ctid = any(array(
        select ctid from outboxkit.idempotency_keys where created_at < (select clock_timestamp()) - interval '1 day'
        limit %(batch)s for update skip locked
    ))
    returning 1
),
trail as (
    delete from outboxkit.audit
    where ctid = any(array(
        select ctid from outboxkit.audit where at < clock_timestamp() - interval '1 year'
        limit %(batch)s for update skip locked
    ))
    returning 1
)
select greatest((select count(*) from stats), (select count(*) from gone), (select count(*) from answers),
                (select count(*) from trail))
