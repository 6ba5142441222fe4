"""Where the triggers of each queue go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from outboxkit.settings import http_url
from outboxkit_relay.task_names import read_queue
from outboxkit_relay.triggers import Queues

PROCESS_JOB: Final = "/process-job"

D = TypeVar("D")


class Route(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is particular to one queue; what is None is as for the others."""

    url: str | None = None
    """The worker."""
    cloud_tasks_queue: str | None = None
    """Its Cloud Tasks queue, of the same project and location."""


def read_worker_url(text: str) -> str:
    """Reads a worker's URL; without a path it gets the protocol's, /process-job."""
    parts = urlsplit(http_url(text))
    if parts.fragment:
        raise ValueError(f"{text!r} has a fragment (#{parts.fragment}), which is never sent")
    if parts.path in {"", "/"}:
        return urlunsplit(parts._replace(path=PROCESS_JOB))
    if not parts.path.endswith(PROCESS_JOB):
        raise ValueError(f"the path {parts.path} of {text!r} does not end in {PROCESS_JOB}, where the protocol lives")
    return text


def read_routes(text: str) -> Mapping[str, Route]:
    """Reads a JSON object of queue → worker URL, or queue → {"url": …, "cloudTasksQueue": …}."""
    try:
        found = msgspec.json.decode(text, type=dict[str, str | Route])
    except ValueError as error:
        raise ValueError(f"not a JSON object of queue and URL: {error}") from None
    return {queue: _read_route(Route(url=route) if isinstance(route, str) else route) for queue, route in found.items()}


def _read_route(route: Route) -> Route:
    return Route(
        url=None if route.url is None else read_worker_url(route.url),
        cloud_tasks_queue=None if route.cloud_tasks_queue is None else read_queue(route.cloud_tasks_queue),
    )


def destinations(default: D, routes: Mapping[str, Route], resolved: Callable[[Route], D]) -> dict[D, Queues]:
    """Every destination with the outbox queues that lead there; `resolved` tells where a route leads.

    Queues that lead to the same place share its drain. Every queue without a route of its own goes to `default`.
    """
    routed: dict[D, list[str]] = {}
    for queue, route in routes.items():
        if (to := resolved(route)) != default:
            routed.setdefault(to, []).append(queue)
    elsewhere = tuple(sorted(queue for queues in routed.values() for queue in queues))
    return {
        default: Queues(besides=elsewhere),
        **{to: Queues(only=tuple(sorted(queues))) for to, queues in routed.items()},
    }
