-- The kit's tables, and the one way in. Applied by 0001_initial.py, which looks for the schema first.

-- RFC 9562 version 7: 48 bits of Unix time in milliseconds, then randomness. Ascending ids keep the primary key's
-- inserts on one page. (Postgres 18 has uuidv7(); 14 to 17 do not.)
create function outboxkit.uuid7() returns uuid
language sql volatile parallel safe
return encode(
    set_bit(set_bit(
        overlay(
            uuid_send(gen_random_uuid())
            placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
            from 1 for 6),
        52, 1), 53, 1),
    'hex')::uuid;

create table outboxkit.jobs (
    id                  uuid primary key,
    queue               text        not null constraint jobs_queue_check check (length(queue) between 1 and 100),
    kind                text        not null constraint jobs_kind_check check (length(kind) between 1 and 200),
    payload             jsonb       not null,
    state               text        not null default 'queued'
        constraint jobs_state_check check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    attempt             integer     not null default 0,
    -- Bounded: give-backs and replays raise it.
    max_attempts        integer     constraint jobs_max_attempts_check check (max_attempts between 1 and 1000000),
    -- What a program can read back in any time zone: one job with an infinite time, or one before year 1, would fail every
    -- batch that it is claimed in.
    run_at              timestamptz not null
        constraint jobs_run_at_check check (run_at between '0001-01-03 00:00:00+00' and '9999-12-29 00:00:00+00'),
    lease_until         timestamptz,
    leased_by           uuid,
    rescue_at           timestamptz,
    rescues             integer     not null default 0,
    unique_key          text        constraint jobs_unique_key_check check (length(unique_key) between 1 and 500),
    traceparent         text        constraint jobs_traceparent_check check (length(traceparent) <= 200),
    progress            jsonb,
    cancel_requested_at timestamptz,
    result              jsonb,
    errors              jsonb       not null default '[]',
    created_at          timestamptz not null,
    started_at          timestamptz,
    finished_at         timestamptz
-- A job is written three times (enqueue, claim, completion): room on its page keeps the versions together. Vacuum is
-- asked for by count, not by share, so that a table of ten million finished jobs is cleaned as often as a small one.
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000);

create index jobs_queued on outboxkit.jobs (run_at, id) where state = 'queued';
create index jobs_running on outboxkit.jobs (lease_until) where state = 'running';
create index jobs_rescue on outboxkit.jobs (rescue_at) where state = 'queued' and rescue_at is not null;
create index jobs_finished on outboxkit.jobs (finished_at) where finished_at is not null;
create unique index jobs_unique_key on outboxkit.jobs (kind, unique_key) where unique_key is not null;

-- No foreign key to jobs: both rows are only ever written by enqueue_job and by statements that hold the job's row,
-- and the check would cost every enqueue a lock and a look-up.
-- job_id is not unique (†): re-arming a job inserts a new id, so that a late acknowledgement of the old row can never
-- delete the new one; a row too many costs one harmless trigger.
create table outboxkit.outbox (
    id          bigint generated always as identity primary key,
    job_id      uuid        not null,
    queue       text        not null,
    kind        text        not null,
    traceparent text,
    due_at      timestamptz not null,
    claims      integer     not null default 0,
    attempts    integer     not null default 0,
    last_error  text,
    created_at  timestamptz not null
-- A small hot table: every row is updated once or more and deleted within seconds. Dead rows slow SKIP LOCKED claims, so
-- vacuum comes after a fixed few and does not pause.
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000,
        autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000);

create index outbox_due on outboxkit.outbox (due_at, id);
create index outbox_job on outboxkit.outbox (job_id);

create table outboxkit.dead_letters (
    id          bigint generated always as identity primary key,
    job_id      uuid        not null,
    queue       text        not null,
    kind        text        not null,
    stage       text        not null constraint dead_letters_stage_check check (stage in ('trigger', 'job')),
    reason      text        not null,
    attempts    integer     not null,
    last_status integer,
    last_error  text,
    died_at     timestamptz not null,
    replayed_at timestamptz,
    replayed_by text
);

create index dead_letters_job on outboxkit.dead_letters (job_id);
create index dead_letters_open on outboxkit.dead_letters (died_at, id) where replayed_at is null;

create table outboxkit.trigger_settings (
    singleton      boolean primary key default true constraint trigger_settings_singleton_check check (singleton),
    mode_override  text constraint trigger_settings_override_check
        check (mode_override in ('db', 'http', 'cloud-tasks', 'none')),
    override_by    text,
    override_at    timestamptz,
    effective_mode text constraint trigger_settings_effective_check
        check (effective_mode in ('db', 'http', 'cloud-tasks', 'none')),
    published_by   uuid,
    published_at   timestamptz,
    problems       jsonb not null default '[]'
);
insert into outboxkit.trigger_settings default values;

create table outboxkit.trigger_stats (
    minute     timestamptz not null,
    mode       text        not null,
    outcome    text        not null,
    relay      uuid        not null,
    triggers   bigint      not null,
    latency_ms bigint[]    not null,
    primary key (minute, mode, outcome, relay)
);

create table outboxkit.processes (
    id         uuid primary key,
    role       text        not null,
    host       text        not null,
    pid        integer     not null,
    version    text        not null,
    details    jsonb       not null default '{}',
    started_at timestamptz not null,
    seen_at    timestamptz not null
) with (fillfactor = 50);

create table outboxkit.audit (
    id      bigint generated always as identity primary key,
    at      timestamptz not null default clock_timestamp(),
    actor   text        not null,
    action  text        not null,
    subject text        not null,
    details jsonb       not null default '{}'
);

create table outboxkit.idempotency_keys (
    scope      text        not null,
    key        text        not null constraint idempotency_keys_key_check check (length(key) between 1 and 255),
    digest     bytea       not null,
    status     integer     not null,
    headers    jsonb       not null default '{}',
    body       jsonb,
    created_at timestamptz not null default clock_timestamp(),
    primary key (scope, key)
);
create index idempotency_keys_created on outboxkit.idempotency_keys (created_at);

-- The only way in: writes the job and its trigger in the caller's transaction, one round trip (G1).
-- SECURITY DEFINER with a pinned search_path: a producer needs USAGE on the schema and EXECUTE on this function, and no
-- right on any table. Clocks are the database's. Returns the job's id; with a unique_key that exists already, the id of
-- the job that holds it, and nothing is written.
create function outboxkit.enqueue_job(
    kind         text,
    payload      jsonb       default '{}',
    queue        text        default 'default',
    run_at       timestamptz default null,
    unique_key   text        default null,
    max_attempts integer     default null,
    traceparent  text        default null
) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    job uuid;
    at  timestamptz := clock_timestamp();
    due timestamptz := coalesce(enqueue_job.run_at, at);
begin
    if enqueue_job.unique_key is null then
        job := outboxkit.uuid7();
        insert into outboxkit.jobs (id, queue, kind, payload, run_at, max_attempts, traceparent, created_at)
        values (job, enqueue_job.queue, enqueue_job.kind, enqueue_job.payload, due, enqueue_job.max_attempts,
                enqueue_job.traceparent, at);
    else
        -- † Insert, then a separate select, looped. As one statement the second of two racing enqueuers gets no row:
        -- its insert waits for the first and does nothing, and its snapshot is too old to see what the first wrote.
        -- The loop covers a holder that retention deletes between the two.
        loop
            insert into outboxkit.jobs
                (id, queue, kind, payload, run_at, unique_key, max_attempts, traceparent, created_at)
            values (outboxkit.uuid7(), enqueue_job.queue, enqueue_job.kind, enqueue_job.payload, due,
                    enqueue_job.unique_key, enqueue_job.max_attempts, enqueue_job.traceparent, at)
            on conflict (kind, unique_key) where unique_key is not null do nothing
            returning id into job;
            exit when job is not null;
            select j.id into job from outboxkit.jobs j
            where j.kind = enqueue_job.kind and j.unique_key = enqueue_job.unique_key;
            if job is not null then
                return job;
            end if;
        end loop;
    end if;
    insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
    values (job, enqueue_job.queue, enqueue_job.kind, enqueue_job.traceparent, due, at);
    return job;
end
$$;

-- Many at once: a JSON array of objects with enqueue_job's arguments as keys. Returns the ids in the array's order.
-- Jobs with a unique_key are taken in the key's order, so that two callers with the same keys cannot deadlock.
create function outboxkit.enqueue_jobs(jobs jsonb) returns setof uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    at  timestamptz := clock_timestamp();
    ids uuid[];
    new record;
begin
    if not jsonb_path_exists(enqueue_jobs.jobs, '$[*].unique_key ? (@ != null)') then
        return query
        with input as materialized (
            select outboxkit.uuid7() as id, n, kind, coalesce(payload, '{}') as payload,
                   coalesce(queue, 'default') as queue, coalesce(run_at, at) as run_at, max_attempts, traceparent
            from rows from (jsonb_to_recordset(enqueue_jobs.jobs) as (
                kind text, payload jsonb, queue text, run_at timestamptz, max_attempts integer, traceparent text
            )) with ordinality as t (kind, payload, queue, run_at, max_attempts, traceparent, n)
        ), job as (
            insert into outboxkit.jobs (id, queue, kind, payload, run_at, max_attempts, traceparent, created_at)
            select id, queue, kind, payload, run_at, max_attempts, traceparent, at from input order by n
        ), trigger as (
            insert into outboxkit.outbox (job_id, queue, kind, traceparent, due_at, created_at)
            select id, queue, kind, traceparent, run_at, at from input order by n
        )
        select id from input order by n;
        return;
    end if;
    for new in
        select * from rows from (jsonb_to_recordset(enqueue_jobs.jobs) as (
            kind text, payload jsonb, queue text, run_at timestamptz, unique_key text, max_attempts integer,
            traceparent text
        )) with ordinality as t (kind, payload, queue, run_at, unique_key, max_attempts, traceparent, n)
        order by kind collate "C", unique_key collate "C", n
    loop
        ids[new.n] := outboxkit.enqueue_job(
            new.kind, coalesce(new.payload, '{}'), coalesce(new.queue, 'default'), new.run_at, new.unique_key,
            new.max_attempts, new.traceparent);
    end loop;
    return query select unnest(ids);
end
$$;

-- Completes one attempt inside a handler's own transaction, or raises: the COMMIT that follows in the same pipeline must
-- not happen when the lease was lost, and nobody is there to look at a row count in between.
create function outboxkit.complete_attempt(job uuid, token integer, worker uuid, outcome jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    update outboxkit.jobs
    set state = 'succeeded', result = outcome, lease_until = null, finished_at = clock_timestamp()
    where id = job and attempt = token and leased_by = worker and state = 'running';
    if not found then
        raise exception 'job % attempt %: the lease was lost', job, token using errcode = 'OBX01';
    end if;
end
$$;

revoke all on function outboxkit.enqueue_job(text, jsonb, text, timestamptz, text, integer, text) from public;
revoke all on function outboxkit.enqueue_jobs(jsonb) from public;
revoke all on function outboxkit.complete_attempt(uuid, integer, uuid, jsonb) from public;
