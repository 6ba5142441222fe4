-- By the first entries of the partial indexes.
select /* harness */ not exists (select from outboxkit.jobs where state = 'queued' order by run_at, id limit 1)
    and not exists (select from outboxkit.jobs where state = 'running' order by lease_until limit 1)
