-- Which of the jobs %(ids)s should have run more than %(horizon)s ago.
select id from outboxkit.jobs where id = any(%(ids)s) and run_at < clock_timestamp() - %(horizon)s
