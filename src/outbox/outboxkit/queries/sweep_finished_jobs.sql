-- Retention: deletes up to %(batch)s jobs that ended more than %(keep)s ago. One whose dead letter nobody has replayed is
-- kept, however old. Returns the ids deleted.
-- Triggers that are left over go with their jobs: a cancel that waited for a retry cannot see the one that the retry wrote.
-- In db mode nobody sends it, and after a switch to http it would end as the dead letter of a job that is long gone.
with old as materialized (
    select j.id
    from outboxkit.jobs j
    where j.finished_at < (select clock_timestamp()) - %(keep)s
      and not exists (select from outboxkit.dead_letters d where d.job_id = j.id and d.replayed_at is null)
    order by j.finished_at
    limit %(batch)s
    for update skip locked
),
leftover as (
    delete from outboxkit.outbox
    where id = any(array(
        select o.id from outboxkit.outbox o where o.job_id = any(array(select id from old)) for update skip locked
    ))
)
delete from outboxkit.jobs j where j.id = any(array(select id from old))
returning j.id
