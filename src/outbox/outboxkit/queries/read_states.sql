-- What became of the jobs a claim did not get. Read afresh, in a statement of its own: the claim's snapshot is too old.
select id, state, kind, attempt, leased_by, greatest(0, extract(epoch from run_at - clock_timestamp()))::float8 as due_in
from outboxkit.jobs
where id = any(%(ids)s)
