-- The relay's judgement of the transport: what really happens to triggers, and why not what was asked for.
update outboxkit.trigger_settings
set effective_mode = %(mode)s, problems = %(problems)s::jsonb, published_by = %(process)s, published_at = clock_timestamp()
