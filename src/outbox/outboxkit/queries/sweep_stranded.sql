-- Re-arms up to %(batch)s queued jobs whose trigger was handed to a transport that has lost it: no outbox row, and
-- rescue_at past. After %(rescues)s rescues that count the job is failed with a dead letter. A rescue counts if the worker
-- has done a job of the queue in the time before it: otherwise it is the worker that is away, or cannot be reached, and no
-- job is failed for that (G6). Nor does one count that finds the job's task waiting (see hand_over_triggers). Returns the
-- state each got.
with stranded as materialized (
    select j.id, j.queue, j.rescues - j.excused >= %(rescues)s as is_last,
           -- When its trigger was handed over, or when it was re-armed.
           j.rescue_at - %(after)s * power(2, least(j.rescues, 10)) as since
    from outboxkit.jobs j
    where j.state = 'queued'
      and j.rescue_at < (select clock_timestamp())
      -- † Not looked at again after a lock wait, so there is no wait (SKIP LOCKED), and what keeps two sweeps from both
      -- re-arming is rescue_at, which is written on the row that is locked.
      and not exists (select from outboxkit.outbox o where o.job_id = j.id)
    order by j.rescue_at
    limit %(batch)s
    for no key update skip locked
),
-- Once for each queue. The order makes it a look-up by index, whatever the statistics say.
done as materialized (
    select s.queue,
           (select d.finished_at from outboxkit.jobs d
            where d.state = 'succeeded' and d.queue = s.queue and d.finished_at > min(s.since)
            order by d.finished_at desc limit 1) as last
    from stranded s
    group by s.queue
),
judged as materialized (
    -- † Without this a worker that comes back would see its backlog buried: one success, and every other job is at its end.
    select s.id, coalesce(d.last > s.since, false) as counts, s.is_last and coalesce(d.last > s.since, false) as hopeless
    from stranded s join done d on d.queue = s.queue
),
swept as (
    update outboxkit.jobs j
    set state = case when not s.hopeless then 'queued' else 'failed' end,
        finished_at = case when not s.hopeless then null else clock_timestamp() end,
        -- † Written before the new trigger is sent: by run_at alone the job would be re-armed at every sweep for as long as
        -- the transport takes. Doubles each time; the exponent is capped at ten, a thousand times the first wait.
        rescue_at = clock_timestamp() + %(after)s * power(2, least(rescues + 1, 10)),
        rescues = rescues + 1,
        excused = case when s.counts then excused else excused + 1 end,
        errors = case
            when not s.hopeless then errors
            else case when jsonb_array_length(errors) >= 20 then errors - 0 else errors end
                || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'reason', 'stranded',
                                      'error', 'triggered ' || rescues + 1 || ' times, never claimed')
        end
    from judged s
    where j.id = s.id and j.id = any(array(select id from judged)) and j.state = 'queued'
    returning j.id, j.queue, j.kind, j.traceparent, j.state, j.attempt, j.rescues
),
rearmed as (
    -- † A new id, as in end_attempt.
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    select id, queue, kind, traceparent, clock_timestamp(), clock_timestamp() from swept where state = 'queued'
),
buried as (
    insert into outboxkit.dead_letters (job_id, queue, kind, stage, reason, attempts, last_error, died_at)
    select id, queue, kind, 'trigger', 'stranded', rescues, 'triggered ' || rescues || ' times, never claimed',
           clock_timestamp()
    from swept where state = 'failed'
)
select id, state, attempt, traceparent from swept
