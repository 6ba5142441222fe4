-- Floor of enqueue: the kit's function, called without SQLAlchemy.
select outboxkit.enqueue_job(kind => %(kind)s, payload => %(payload)s::jsonb, traceparent => %(traceparent)s)
