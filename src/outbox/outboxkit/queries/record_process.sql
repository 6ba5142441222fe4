-- A sign of life.
insert into outboxkit.processes (id, role, host, pid, version, details, started_at, seen_at)
values (%(id)s, %(role)s, %(host)s, %(pid)s, %(version)s, %(details)s::jsonb, clock_timestamp(), clock_timestamp())
on conflict (id) do update set seen_at = clock_timestamp(), details = excluded.details
