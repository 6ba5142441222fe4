-- Jobs that have ended, as every database has after its first day.
insert /* harness */ into outboxkit.jobs
    (id, queue, kind, payload, state, attempt, max_attempts, run_at, created_at, started_at, finished_at)
select outboxkit.uuid7(), 'default', %(kind)s, '{}', 'succeeded', 1, 5, now(), now(), now(), now()
from generate_series(1, %(jobs)s)
