-- What readiness asks: the revision of the tables, and the mode that a live relay has published.
select (select max(version_num) from outboxkit.alembic_version where version_num like 'outboxkit%') as revision,
       effective_mode, mode_override, problems,
       coalesce(published_at > clock_timestamp() - interval '30 seconds', false) as fresh
from outboxkit.trigger_settings;
