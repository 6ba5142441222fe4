-- Completes the attempt and commits the open transaction, whose other writes thus take effect exactly once. Raises OBX01
-- when the lease was lost; then nothing is committed.
-- † COMMIT in the same message: a process that froze between the two would hold the job's row for ever.
select outboxkit.complete_attempt(:'job', :'attempt', :'worker', nullif(:'result', '')::jsonb) \;
commit;
