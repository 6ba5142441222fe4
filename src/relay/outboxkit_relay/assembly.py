"""Puts the relay's parts together from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from outboxkit.database import create_pool
from outboxkit.modes import Mode
from outboxkit.processes import Process
from outboxkit_relay.backoff import Backoff
from outboxkit_relay.breaker import Breaker
from outboxkit_relay.drain import Drain, Timing
from outboxkit_relay.endpoint import Endpoint
from outboxkit_relay.rate import TokenBucket
from outboxkit_relay.settings import RelaySettings
from outboxkit_relay.settlement import Settlement
from outboxkit_relay.stats import Stats
from outboxkit_relay.transports import Transport
from outboxkit_relay.transports.checked import CheckedTransport
from outboxkit_relay.transports.http import HttpTransport
from outboxkit_relay.triggers import Pool, Queues
from outboxkit_relay.window import Window

# Connections besides one a drain: settlement in flight, burials, look-ups, sweeps, publication.
SPARE_CONNECTIONS: Final = 6
# Seconds to wait for a connection. Whoever waits does not see the database come back; whoever asks again does.
CONNECTION_WAIT: Final = 2.0


class Parts(msgspec.Struct, kw_only=True):
    """What a relay is made of."""

    pool: Pool
    settlement: Settlement
    stats: Stats
    drains: list[Drain]


@asynccontextmanager
async def assembled(settings: RelaySettings, *, process: Process) -> AsyncIterator[Parts]:
    """The parts, with an open pool (which connects when it can) and open transports; closed in the end."""
    addresses = destinations(settings)
    pool = create_pool(
        settings.database_url.reveal(),
        max_size=len(addresses) + SPARE_CONNECTIONS,
        timeout=CONNECTION_WAIT,
        application_name="outboxkit relay",
    )
    drains: list[Drain] = []
    settlement = Settlement(pool=pool, lease=settings.lease, busy=lambda: any(drain.in_flight for drain in drains))
    stats = Stats(relay=process.id)
    rate = TokenBucket(settings.rate_limit) if settings.rate_limit is not None else None
    async with AsyncExitStack() as stack:
        await pool.open(wait=False)
        stack.push_async_callback(pool.close)
        for url, queues in addresses.items():
            transport = CheckedTransport(http_transport(settings, url), pool=pool)
            stack.push_async_callback(transport.close)
            drains.append(
                Drain(
                    mode=Mode.HTTP,
                    endpoint=make_endpoint(settings, url=url, queues=queues, transport=transport),
                    pool=pool,
                    settlement=settlement,
                    stats=stats,
                    slots=settings.concurrency,
                    timing=timing(settings),
                    rate=rate,
                )
            )
        yield Parts(pool=pool, settlement=settlement, stats=stats, drains=drains)


def destinations(settings: RelaySettings) -> dict[str, Queues]:
    """The URLs triggers go to, each with its queues; none while the default queue has no URL.

    Queues that share a URL share its drain. Every queue without a route of its own goes to WORKER_TRIGGER_URL.
    """
    if settings.url is None:
        return {}
    routed: dict[str, list[str]] = {}
    for queue, url in settings.routes.items():
        if url != settings.url:
            routed.setdefault(url, []).append(queue)
    elsewhere = tuple(sorted(queue for queues in routed.values() for queue in queues))
    return {
        settings.url: Queues(besides=elsewhere),
        **{url: Queues(only=tuple(sorted(queues))) for url, queues in routed.items()},
    }


def make_endpoint(settings: RelaySettings, *, url: str, queues: Queues, transport: Transport) -> Endpoint:
    """An endpoint nothing is known about yet. People see its URL without the query, which may hold a token."""
    return Endpoint(
        name=url.partition("?")[0],
        queues=queues,
        transport=transport,
        breaker=Breaker(faults=settings.breaker_faults, base=settings.probe_base, longest=settings.probe_max),
        window=Window(settings.concurrency),
        backoff=Backoff(base=settings.backoff_base, longest=settings.backoff_max),
        max_attempts=settings.max_attempts,
    )


def http_transport(settings: RelaySettings, url: str) -> HttpTransport:
    """The transport of http mode to one URL."""
    return HttpTransport(
        url,
        secret=settings.secret,
        wait=settings.wait,
        deadline=settings.deadline,
        connections=settings.concurrency,
    )


def timing(settings: RelaySettings) -> Timing:
    """The drain's times."""
    return Timing(lease=settings.lease, deadline=settings.deadline, poll=settings.poll, max_age=settings.max_age)
