-- As enqueue_job.sql, many at once: one JSON array.
select outboxkit.enqueue_jobs(cast(cast(:jobs as text) as jsonb))
