-- The job as it stands now. In a statement of its own: the snapshot of a claim that got nothing is too old.
select id, state, kind, attempt, leased_by,
       greatest(0, extract(epoch from run_at - clock_timestamp()))::float8 as due_in
from outboxkit.jobs
where id = :'job';
