-- Which of a worker's attempts are no longer its own. Asked only for those that a heartbeat did not extend: it may just
-- have passed over a row that was locked.
select h.id
from unnest(%(ids)s::uuid[], %(attempts)s::integer[]) as h (id, attempt)
left join outboxkit.jobs j on j.id = h.id
where j.id is null or j.attempt <> h.attempt or j.leased_by is distinct from %(worker)s or j.state <> 'running'
