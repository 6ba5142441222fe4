-- The application's tables, and a record of everything that happens to jobs and triggers: who did it (each process has a login
-- of its own), when, and what stood there before. The checker reads nothing else.
create schema chaos;

create table chaos.orders (
    id   bigint primary key,
    kind text   not null
);

-- No unique constraint: it would hide the second effect that the checker looks for.
create table chaos.shipments (
    order_id bigint  not null,
    job_id   uuid    not null,
    attempt  integer not null
);

create table chaos.job_history (
    n            bigint generated always as identity primary key,
    at           timestamptz not null,
    who          text        not null,
    job_id       uuid        not null,
    old_state    text,
    state        text        not null,
    old_attempt  integer,
    attempt      integer     not null,
    old_lease    timestamptz,
    given_back   boolean     not null,
    old_failures integer     not null,
    failures     integer     not null,
    reason       text
);

create table chaos.trigger_history (
    n         bigint generated always as identity primary key,
    who       text   not null,
    outbox_id bigint not null,
    job_id    uuid   not null,
    what      text   not null
);

-- Security definer: the roles under attack have no right on these tables. session_user is who is logged in all the same.
create function chaos.note_job() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into chaos.job_history (at, who, job_id, old_state, state, old_attempt, attempt, old_lease, given_back,
                                   old_failures, failures, reason)
    values (clock_timestamp(), session_user, new.id,
            case tg_op when 'UPDATE' then old.state end, new.state,
            case tg_op when 'UPDATE' then old.attempt end, new.attempt,
            case tg_op when 'UPDATE' then old.lease_until end,
            tg_op = 'UPDATE' and coalesce(new.max_attempts > old.max_attempts, false),
            case tg_op when 'UPDATE' then jsonb_array_length(old.errors) else 0 end, jsonb_array_length(new.errors),
            new.errors -> -1 ->> 'reason');
    return null;
end
$$;

-- Heartbeats write none of these columns, and so leave no record.
create trigger note_new_job after insert on outboxkit.jobs for each row execute function chaos.note_job();
create trigger note_job after update of state, attempt, leased_by on outboxkit.jobs
    for each row execute function chaos.note_job();

create function chaos.note_trigger() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into chaos.trigger_history (who, outbox_id, job_id, what)
    select session_user, coalesce(new.id, old.id), coalesce(new.job_id, old.job_id),
           case
               when tg_op = 'INSERT' then 'written'
               when tg_op = 'DELETE' then 'deleted'
               when new.claims > old.claims then 'claimed'
               else 'settled'
           end;
    return null;
end
$$;

create trigger note_trigger after insert or update or delete on outboxkit.outbox
    for each row execute function chaos.note_trigger();

grant usage on schema chaos to web, worker;
grant insert on chaos.orders to web;
grant insert on chaos.shipments to worker;
