-- Row versions that vacuum has yet to remove, counted, not estimated.
select (select dead_tuple_count from harness.pgstattuple('outboxkit.jobs')) as jobs,
       (select dead_tuple_count from harness.pgstattuple('outboxkit.outbox')) as outbox
