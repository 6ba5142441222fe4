-- Grants the three roles just what each needs. The roles exist already; run this as the owner of the kit's schema, after
-- every `outboxkit migrate`:
--
--   psql "$DATABASE_URL" -v web=web_user -v relay=relay_user -v worker=worker_user -f roles.sql
--
-- A producer that only enqueues needs no more than the first two grants for its role.
\set ON_ERROR_STOP on
begin;

grant usage on schema outboxkit to :"web", :"relay", :"worker";
grant execute on function
    outboxkit.enqueue_job(text, jsonb, text, timestamptz, text, integer, text),
    outboxkit.enqueue_jobs(jsonb)
    to :"web", :"worker";
grant select on outboxkit.alembic_version to :"web", :"relay", :"worker";

-- Web: shows everything, cancels jobs, keeps answers for idempotency. It can claim nothing and bury nothing.
grant select on outboxkit.jobs, outboxkit.outbox, outboxkit.dead_letters, outboxkit.trigger_settings,
    outboxkit.trigger_stats, outboxkit.processes, outboxkit.audit, outboxkit.idempotency_keys to :"web";
grant update (state, finished_at, cancel_requested_at) on outboxkit.jobs to :"web";
-- UPDATE on the outbox is what locking its rows (SKIP LOCKED) asks for.
grant update (due_at), delete on outboxkit.outbox to :"web";
grant insert, update on outboxkit.idempotency_keys to :"web";

-- Relay and worker: both sweep, so both write jobs, triggers and dead letters. Only the relay publishes the mode and the
-- statistics; only the worker enqueues and completes.
grant select, update, delete on outboxkit.jobs to :"relay", :"worker";
grant select, insert, update, delete on outboxkit.outbox, outboxkit.dead_letters, outboxkit.processes
    to :"relay", :"worker";
grant select on outboxkit.trigger_settings to :"relay", :"worker";
grant select, delete on outboxkit.trigger_stats, outboxkit.idempotency_keys, outboxkit.audit to :"relay", :"worker";
-- Again for the locks of retention; on the column that it goes by, which nobody has a reason to write.
grant update (minute) on outboxkit.trigger_stats to :"worker";
grant update (created_at) on outboxkit.idempotency_keys to :"relay", :"worker";
grant update (at) on outboxkit.audit to :"relay", :"worker";
grant update on outboxkit.trigger_settings to :"relay";
grant insert, update on outboxkit.trigger_stats to :"relay";
grant execute on function outboxkit.complete_attempt(uuid, integer, uuid, jsonb) to :"worker";

commit;
