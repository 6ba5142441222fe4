-- Re-arms up to %(batch)s queued jobs whose trigger was handed to a transport that has lost it: no outbox row, and
-- rescue_at past. After %(rescues)s of them, not counting those that found its task waiting in a queue, the job is failed
-- with a dead letter, if the worker has done a job of its queue meanwhile: otherwise it is the worker that is away, or cannot
-- be reached, and no job is failed for that (G6). Returns the state each got.
with stranded as materialized (
    select j.id,
           j.rescues - j.waits >= %(rescues)s
               -- † Since the trigger was last handed over. The worst that a worker which is away costs is triggers.
               and (
                   select true from outboxkit.jobs d
                   where d.state = 'succeeded' and d.queue = j.queue
                     and d.finished_at > j.rescue_at - %(after)s * power(2, least(j.rescues, 10))
                   -- The order makes it an index look-up, whatever the statistics say.
                   order by d.finished_at limit 1
               ) is not null as hopeless
    from outboxkit.jobs j
    where j.state = 'queued'
      and j.rescue_at < (select clock_timestamp())
      -- † Not looked at again after a lock wait, so there is no wait (SKIP LOCKED), and what keeps two sweeps from both
      -- re-arming is rescue_at, which is written on the row that is locked.
      and not exists (select from outboxkit.outbox o where o.job_id = j.id)
    order by j.rescue_at
    limit %(batch)s
    for no key update of j skip locked
),
swept as (
    update outboxkit.jobs j
    set state = case when not s.hopeless then 'queued' else 'failed' end,
        finished_at = case when not s.hopeless then null else clock_timestamp() end,
        -- † Written before the new trigger is sent: by run_at alone the job would be re-armed at every sweep for as long as
        -- the transport takes. Doubles each time; the exponent is capped at ten, a thousand times the first wait.
        rescue_at = clock_timestamp() + %(after)s * power(2, least(rescues + 1, 10)),
        rescues = rescues + 1,
        errors = case
            when not s.hopeless then errors
            else case when jsonb_array_length(errors) >= 20 then errors - 0 else errors end
                || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'reason', 'stranded',
                                      'error', 'triggered ' || rescues + 1 || ' times, never claimed')
        end
    from stranded s
    where j.id = s.id and j.id = any(array(select id from stranded)) and j.state = 'queued'
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
