-- The mode as last published, and whether the relay that did it is alive: published within %(fresh)s.
select mode_override, effective_mode, problems,
       coalesce(published_at > clock_timestamp() - %(fresh)s, false) as fresh
from outboxkit.trigger_settings
