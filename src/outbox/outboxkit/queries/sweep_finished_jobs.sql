-- Retention: deletes up to %(batch)s jobs that ended more than %(keep)s ago. One whose dead letter nobody has replayed is
-- kept, however old. Returns the ids deleted.
with old as materialized (
    select j.id
    from outboxkit.jobs j
    where j.finished_at < (select clock_timestamp()) - %(keep)s
      and not exists (select from outboxkit.dead_letters d where d.job_id = j.id and d.replayed_at is null)
    order by j.finished_at
    limit %(batch)s
    for update skip locked
)
delete from outboxkit.jobs j where j.id = any(array(select id from old))
returning j.id
