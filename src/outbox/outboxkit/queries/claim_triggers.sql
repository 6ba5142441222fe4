-- Claims up to %(slots)s due outbox rows for one relay, the longest due first. The claim is a lease: due_at moves ahead, and
-- a relay that dies leaves rows that come due again. claims is the fence that settlement is checked against.
-- SKIP LOCKED: any number of relays drain one outbox and none waits for another (G5).
-- Of the queues in %(only)s, or of every queue when that is null; never of those in %(paused)s.
-- %(ahead)s: a transport that keeps a schedule itself takes triggers this long before they are due (null: none does). Those
-- that were claimed before are not taken early: their due_at is somebody's lease, or a retry's time.
with due as materialized (
    select id, job_id, due_at
    from outboxkit.outbox
    where due_at <= (select clock_timestamp()) + coalesce(%(ahead)s::interval, interval '0')
      and (%(ahead)s::interval is null or claims = 0 or due_at <= (select clock_timestamp()))
      and queue <> all(%(paused)s::text[])
      and (%(only)s::text[] is null or queue = any(%(only)s::text[]))
    order by due_at, id
    limit %(slots)s
    for update skip locked
)
update outboxkit.outbox o
set claims = o.claims + 1, due_at = clock_timestamp() + %(lease)s
from due
left join lateral (
    -- Read only where it is wanted: elsewhere this costs no look-up.
    select case when j.run_at > clock_timestamp() then least(j.run_at, clock_timestamp() + %(ahead)s::interval) end as scheduled_at,
           case when j.rescues > 0 then j.handed_over end as previous,
           j.excused
    from outboxkit.jobs j
    where j.id = due.job_id and %(ahead)s::interval is not null
) as job on true
-- The array makes it an index look-up whatever the statistics say (see claim_by_ids).
where o.id = due.id and o.id = any(array(select id from due))
-- waited: seconds since the trigger became due at first. A later claim knows only when the row was written.
returning o.id, o.job_id, o.queue, o.kind, o.traceparent, o.claims, o.attempts,
          greatest(0, extract(epoch from
              clock_timestamp() - case when o.claims = 1 then due.due_at else o.created_at end))::float8 as waited,
          job.scheduled_at, job.previous, job.excused
