-- Retention of what only describes: roll-ups, processes gone for a day, answers kept for idempotency, the audit trail.
with stats as (
    delete from outboxkit.trigger_stats where minute < clock_timestamp() - %(keep)s returning 1
),
gone as (
    delete from outboxkit.processes where seen_at < clock_timestamp() - interval '1 day' returning 1
),
answers as (
    delete from outboxkit.idempotency_keys where created_at < clock_timestamp() - interval '1 day' returning 1
),
trail as (
    delete from outboxkit.audit where at < clock_timestamp() - interval '1 year' returning 1
)
select (select count(*) from stats) + (select count(*) from gone) + (select count(*) from answers)
     + (select count(*) from trail)
