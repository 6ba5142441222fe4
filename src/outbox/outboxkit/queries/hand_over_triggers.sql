-- Settles triggers that a transport has taken over to deliver later (Cloud Tasks): deletes the rows that are still claimed
-- as they were and notes on their jobs, if these are queued, when to look after them. Returns the ids deleted.
-- † One statement: a row that went without its rescue_at would be a job that nobody looks after if the transport loses it.
-- %(found)s: no task was created, because the one created earlier is still there. %(waiting)s: and it was never dispatched,
-- so this rescue is not held against the job.
with job as materialized (
    -- † Jobs before outbox. SKIP LOCKED: whoever holds a job's row claims it or cancels it, and has its triggers deleted. If
    -- that is rolled back, the trigger is still here, comes due when its lease is over, and is sent under the same name.
    select j.id from outboxkit.jobs j where j.id = any(%(job_ids)s) order by j.id for no key update skip locked
),
mine as materialized (
    select o.id, o.job_id, s.found, s.waiting
    from outboxkit.outbox o
    join unnest(%(ids)s::bigint[], %(claims)s::integer[], %(found)s::boolean[], %(waiting)s::boolean[])
      as s (id, claims, found, waiting) on s.id = o.id
    -- The fence, as in ack_triggers.
    where o.id = any(%(ids)s) and o.claims = s.claims
      -- The array is made first, so the jobs' rows are locked before these. A job that is gone has nobody to look after it.
      and (o.job_id = any(array(select id from job))
           or not exists (select from outboxkit.jobs j where j.id = o.job_id))
    for update of o skip locked
),
armed as (
    update outboxkit.jobs j
    set rescue_at = greatest(j.run_at, clock_timestamp()) + %(after)s * power(2, least(j.rescues, 10)),
        handed_over = case when m.found then j.handed_over else m.id end,
        -- A claim sets rescues to 0, and need not know of this. The sweep may have excused this rescue already.
        excused = case when j.rescues = 0 then 0 when m.waiting then least(j.excused + 1, j.rescues) else j.excused end
    from mine m
    where j.id = m.job_id and j.id = any(array(select job_id from mine)) and j.state = 'queued'
)
delete from outboxkit.outbox o where o.id = any(array(select id from mine))
returning o.id
