-- Adds a few seconds of deliveries to the roll-up. One row a minute, mode, outcome and relay: relays never wait for each
-- other. latency_ms counts deliveries by bucket; its bounds are outboxkit_relay.stats.BUCKETS.
insert into outboxkit.trigger_stats as s (minute, mode, outcome, relay, triggers, latency_ms)
select date_trunc('minute', clock_timestamp()), n.mode, n.outcome, %(relay)s, n.triggers, n.latency_ms::bigint[]
from unnest(%(modes)s::text[], %(outcomes)s::text[], %(triggers)s::bigint[], %(latencies)s::text[])
    as n (mode, outcome, triggers, latency_ms)
on conflict (minute, mode, outcome, relay) do update
set triggers = s.triggers + excluded.triggers,
    latency_ms = array(select a + b from unnest(s.latency_ms, excluded.latency_ms) as u (a, b))
