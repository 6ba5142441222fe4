"""Puts the relay's parts together from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from outboxkit.database import create_pool
from outboxkit.modes import Mode
from outboxkit.processes import Process
from outboxkit_relay.backoff import Backoff
from outboxkit_relay.breaker import Breaker
from outboxkit_relay.cloud_tasks import CloudTasksConnection
from outboxkit_relay.drain import Drain, Timing
from outboxkit_relay.endpoint import Endpoint
from outboxkit_relay.identity import IdTokens
from outboxkit_relay.rate import Combined, Ramp, Rate, TokenBucket
from outboxkit_relay.routes import Route, destinations
from outboxkit_relay.settings import RelaySettings
from outboxkit_relay.settlement import Settlement
from outboxkit_relay.stats import Stats
from outboxkit_relay.task_names import QueueName
from outboxkit_relay.transports import Transport
from outboxkit_relay.transports.checked import CheckedTransport
from outboxkit_relay.transports.cloud_tasks import AHEAD, CloudTasksTransport, TaskPattern
from outboxkit_relay.transports.http import HttpTransport
from outboxkit_relay.transports.task_creation import OneByOne, Together
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


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way out of the outbox: the mode it serves, whose triggers go there, how, and how fast."""

    mode: Mode
    name: str
    queues: Queues
    transport: Transport
    timing: Timing
    rate: Rate | None


@asynccontextmanager
async def assembled(settings: RelaySettings, *, process: Process) -> AsyncIterator[Parts]:
    """The parts, with an open pool (which connects when it can) and open transports; closed in the end.

    There are drains for every mode that is configured, for the mode may change while the relay runs.
    """
    async with AsyncExitStack() as stack:
        limit = TokenBucket(settings.rate_limit) if settings.rate_limit is not None else None
        connection = CloudTasksConnection(endpoint=settings.task_endpoint, emulator=settings.emulator)
        stack.push_async_callback(connection.close)
        ways = [*http_ways(settings, limit), *cloud_tasks_ways(settings, limit, connection)]
        for way in ways:
            stack.push_async_callback(way.transport.close)
        pool = create_pool(
            settings.database_url.reveal(),
            max_size=len(ways) + SPARE_CONNECTIONS,
            timeout=CONNECTION_WAIT,
            application_name="outboxkit relay",
        )
        await pool.open(wait=False)
        stack.push_async_callback(pool.close)
        drains: list[Drain] = []
        settlement = Settlement(
            pool=pool,
            lease=max((way.timing.lease for way in ways), default=settings.lease),
            limits=settings.sweep_limits,
            busy=lambda: any(drain.in_flight for drain in drains),
        )
        stats = Stats(relay=process.id)
        drains += [drain(way, settings=settings, pool=pool, settlement=settlement, stats=stats) for way in ways]
        yield Parts(pool=pool, settlement=settlement, stats=stats, drains=drains)


def drain(way: Way, *, settings: RelaySettings, pool: Pool, settlement: Settlement, stats: Stats) -> Drain:
    """The drain of one way."""
    return Drain(
        mode=way.mode,
        endpoint=make_endpoint(
            settings, name=way.name, queues=way.queues, transport=CheckedTransport(way.transport, pool=pool)
        ),
        pool=pool,
        settlement=settlement,
        stats=stats,
        slots=settings.concurrency,
        timing=way.timing,
        rate=way.rate,
    )


def http_ways(settings: RelaySettings, limit: Rate | None) -> Iterable[Way]:
    """One for each worker's URL; none while the mode is not configured."""
    if settings.missing(Mode.HTTP) or settings.url is None:
        return
    url = settings.url
    timing = Timing(lease=settings.lease, deadline=settings.deadline, poll=settings.poll, max_age=settings.max_age)
    for to, queues in destinations(url, settings.routes, lambda route: route.url or url).items():
        yield Way(
            mode=Mode.HTTP,
            name=shown(to),
            queues=queues,
            transport=http_transport(settings, to),
            timing=timing,
            rate=limit,
        )


def cloud_tasks_ways(settings: RelaySettings, limit: Rate | None, connection: CloudTasksConnection) -> Iterable[Way]:
    """One for each pair of Cloud Tasks queue and worker's URL; none while the mode is not configured."""
    if settings.missing(Mode.CLOUD_TASKS) or settings.url is None or settings.queue_name is None:
        return
    url, queue = settings.url, settings.queue_name

    def resolved(route: Route) -> tuple[QueueName, str]:
        named = route.cloud_tasks_queue
        return queue if named is None else msgspec.structs.replace(queue, queue=named), route.url or url

    ramps: dict[QueueName, Rate] = {}
    for (to, worker), queues in destinations((queue, url), settings.routes, resolved).items():
        ramp = ramps.setdefault(to, TokenBucket(ramp=Ramp())) if settings.ramp else None
        rates = [rate for rate in (limit, ramp) if rate is not None]
        yield Way(
            mode=Mode.CLOUD_TASKS,
            name=f"{to.path} for {shown(worker)}",
            queues=queues,
            transport=cloud_tasks_transport(settings, to, worker, connection),
            timing=Timing(
                lease=settings.task_lease,
                deadline=settings.task_deadline,
                poll=settings.poll,
                max_age=settings.max_age,
                ahead=AHEAD,
            ),
            rate=Combined(rates) if len(rates) > 1 else next(iter(rates), None),
        )


def make_endpoint(settings: RelaySettings, *, name: str, queues: Queues, transport: Transport) -> Endpoint:
    """An endpoint nothing is known about yet."""
    return Endpoint(
        name=name,
        queues=queues,
        transport=transport,
        breaker=Breaker(faults=settings.breaker_faults, base=settings.probe_base, longest=settings.probe_max),
        window=Window(settings.concurrency),
        backoff=Backoff(base=settings.backoff_base, longest=settings.backoff_max),
        max_attempts=settings.max_attempts,
    )


def shown(url: str) -> str:
    """A URL as people see it: without the query, which may hold a token."""
    return url.partition("?")[0]


def http_transport(settings: RelaySettings, url: str) -> HttpTransport:
    """The transport of http mode to one URL."""
    by_header = {
        "off": (),
        "authorization": ("authorization",),
        "x-serverless-authorization": ("x-serverless-authorization", "authorization"),
    }
    identity_headers = by_header[settings.trigger_oidc]
    return HttpTransport(
        url,
        secret=settings.secret,
        wait=settings.wait,
        deadline=settings.deadline,
        connections=settings.concurrency,
        identity=IdTokens(settings.audience(url)) if identity_headers else None,
        identity_headers=identity_headers,
    )


def cloud_tasks_transport(
    settings: RelaySettings, queue: QueueName, url: str, connection: CloudTasksConnection
) -> CloudTasksTransport:
    """The transport of cloud-tasks mode to one queue, for one worker."""
    pattern = TaskPattern(
        queue=queue,
        url=url,
        wait=settings.task_wait,
        dispatch_deadline=settings.dispatch_deadline,
        account=settings.task_account,
        audience=settings.audience(url) if settings.task_account is not None else None,
        secret=settings.secret,
    )
    parent, deadline, size = queue.path, settings.task_deadline, settings.task_batch
    creation = (
        Together(parent=parent, deadline=deadline, size=size)
        if size > 1
        else OneByOne(parent=parent, deadline=deadline)
    )
    return CloudTasksTransport(
        pattern, connect=connection.client, creation=creation, deadline=deadline, patience=settings.stranded_max
    )
