-- Inside a handler's own transaction, pipelined with its COMMIT: raises OBX01 when the lease was lost.
select outboxkit.complete_attempt(%(id)s, %(attempt)s, %(worker)s, %(result)s::jsonb)
