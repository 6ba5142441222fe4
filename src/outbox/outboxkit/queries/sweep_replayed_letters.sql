-- Retention: deletes up to %(batch)s dead letters that were replayed more than %(keep)s ago. Returns the ids deleted.
with old as materialized (
    select id from outboxkit.dead_letters
    where replayed_at < (select clock_timestamp()) - %(keep)s
    limit %(batch)s
    for update skip locked
)
delete from outboxkit.dead_letters d where d.id = any(array(select id from old))
returning d.id
