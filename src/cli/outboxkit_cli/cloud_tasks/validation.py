"""From Google's messages to a task and to a queue's settings: defaults, limits, and what is refused."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from google.cloud import tasks_v2

from outboxkit_cli.cloud_tasks.messages import task_message
from outboxkit_cli.cloud_tasks.names import check_new_task
from outboxkit_cli.cloud_tasks.rates import RateLimits
from outboxkit_cli.cloud_tasks.refusals import Refusal, invalid
from outboxkit_cli.cloud_tasks.retries import RetryConfig
from outboxkit_cli.cloud_tasks.tasks import USER_AGENT, HttpRequest, OidcToken, Task

FURTHEST: Final = 30 * 24 * 3600.0
DEFAULT_DEADLINE: Final = 600.0
LONGEST_DEADLINE: Final = 1800.0
LONGEST_URL: Final = 2083
# Measured by others on the real service, to the byte; its documentation says 100 KB here and 1 MB there.
LARGEST: Final = 2**20 - 7

_WITH_BODY: Final = {tasks_v2.HttpMethod.POST, tasks_v2.HttpMethod.PUT, tasks_v2.HttpMethod.PATCH}
_REPLACED: Final = ("host", "content-length", "user-agent")
_RESERVED: Final = ("x-google-", "x-appengine-", "x-cloudtasks-")


@dataclass(frozen=True, kw_only=True)
class Strictness:
    """Where a local server may be less strict than Google, or stricter."""

    shortest_deadline: float = 15.0
    """The shortest dispatch_deadline that is taken, in seconds. A test of deadlines cannot wait for Google's 15."""
    https_required: bool = False
    """Refuse a token for a plain http URL, as Google does. Off, because a worker on this machine has no certificate."""


def new_task(queue: str, message: Any, now: float, strictness: Strictness) -> Task:
    """Return the task that a CreateTask asks for (`message`: the protobuf Task), refusing what Google refuses."""
    if message.name:
        check_new_task(message.name, queue)
    task = Task(
        name=message.name or f"{queue}/tasks/{secrets.randbelow(10**20):020d}",
        request=_request(message, strictness),
        scheduled=_scheduled(message, now),
        created=now,
        deadline=_deadline(message, strictness),
        retries=retry_config(message.retry_config) if message.HasField("retry_config") else None,
    )
    if stored_size(task) > LARGEST:
        raise invalid("Task size too large")
    return task


def stored_size(task: Task) -> int:
    """Return what counts against the largest size: everything that is stored, in bytes of protobuf."""
    message = tasks_v2.Task.pb(task_message(task, full=True))
    message.ClearField("view")
    return int(message.ByteSize())


def retry_config(message: Any) -> RetryConfig:
    """Return a RetryConfig with Google's defaults for whatever is not set."""
    base = RetryConfig()
    config = RetryConfig(
        max_attempts=message.max_attempts or base.max_attempts,
        max_retry_duration=_seconds(message, "max_retry_duration", base.max_retry_duration),
        min_backoff=_seconds(message, "min_backoff", base.min_backoff),
        max_backoff=_seconds(message, "max_backoff", base.max_backoff),
        max_doublings=message.max_doublings or base.max_doublings,
    )
    _check_retries(config)
    return config


def rate_limits(message: Any) -> RateLimits:
    """Return RateLimits with Google's defaults for whatever is not set; the burst is always Google's to choose."""
    rate, concurrent = message.max_dispatches_per_second, message.max_concurrent_dispatches
    _check_limit("maxDispatchesPerSecond", rate, 500)
    _check_limit("maxConcurrentDispatches", concurrent, 5000)
    base = RateLimits()
    rate = rate or base.max_dispatches_per_second
    return RateLimits(
        max_dispatches_per_second=rate,
        max_concurrent_dispatches=concurrent or base.max_concurrent_dispatches,
        max_burst_size=RateLimits.burst_for(rate),
    )


def _check_limit(name: str, value: float, largest: int) -> None:
    if value < 0:
        raise invalid(f"RateLimits.{name} cannot be negative.")
    if value > largest:
        raise invalid(f"RateLimits.{name} must be less than or equal to {largest}.")


def _check_retries(config: RetryConfig) -> None:
    if config.max_attempts < -1:
        raise invalid("RetryConfig.maxAttempts must be greater or equal to -1.")
    for name in ("max_retry_duration", "min_backoff", "max_backoff", "max_doublings"):
        if getattr(config, name) < 0:
            first, *others = name.split("_")
            raise invalid(f"RetryConfig.{first}{''.join(map(str.title, others))} cannot be negative.")
    if config.min_backoff > config.max_backoff:
        raise invalid("RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.")


def _seconds(message: Any, field: str, default: float) -> float:
    if not message.HasField(field):
        return default
    duration = getattr(message, field)
    return float(duration.seconds + duration.nanos / 1e9)


def _request(message: Any, strictness: Strictness) -> HttpRequest:
    if message.WhichOneof("message_type") != "http_request":
        raise Refusal("UNIMPLEMENTED", "This local server has HTTP tasks alone; set Task.http_request.")
    http = message.http_request
    method = tasks_v2.HttpMethod(http.http_method or tasks_v2.HttpMethod.POST)
    if http.body and method not in _WITH_BODY:
        raise invalid(f"HttpRequest.body cannot be set with the method {method.name}: only with POST, PUT and PATCH.")
    return HttpRequest(
        url=_url(http, strictness),
        method=method.name,
        headers={**{name: value for name, value in http.headers.items() if _kept(name)}, "User-Agent": USER_AGENT},
        body=http.body,
        oidc=_oidc(http),
    )


def _url(http: Any, strictness: Strictness) -> str:
    url: str = http.url
    if not url:
        raise invalid("HttpRequest.url is required.")
    if not url.startswith(("http://", "https://")):
        raise invalid("HttpTarget.url must start with 'http://' or 'https://'.")
    if len(url) > LONGEST_URL:
        raise invalid(f"HttpRequest.url must be at most {LONGEST_URL} characters long.")
    if strictness.https_required and not url.startswith("https://") and http.WhichOneof("authorization_header"):
        raise invalid("HttpRequest.url must start with 'https://' for request with HttpRequest.authorization_header")
    return url


def _oidc(http: Any) -> OidcToken | None:
    if http.HasField("oauth_token"):
        raise Refusal("UNIMPLEMENTED", "This local server has OIDC tokens alone; set HttpRequest.oidc_token.")
    if not http.HasField("oidc_token"):
        return None
    if not http.oidc_token.service_account_email:
        raise invalid("HttpRequest.oidc_token.service_account_email is required.")
    return OidcToken(email=http.oidc_token.service_account_email, audience=http.oidc_token.audience)


def _kept(name: str) -> bool:
    lower = name.lower()
    return lower not in _REPLACED and not lower.startswith(_RESERVED)


def _scheduled(message: Any, now: float) -> float:
    if not message.HasField("schedule_time"):
        return now
    time = message.schedule_time
    scheduled = float(time.seconds + time.nanos // 1000 / 1e6)
    if scheduled > now + FURTHEST:
        when = datetime.fromtimestamp(scheduled, tz=UTC).isoformat(timespec="seconds")
        raise invalid(
            f"The Task.scheduleTime, {when}, is too far in the future. "
            "Schedule time must be no more than 720h in the future."
        )
    return max(scheduled, now)


def _deadline(message: Any, strictness: Strictness) -> float:
    if not message.HasField("dispatch_deadline"):
        return DEFAULT_DEADLINE
    deadline = _seconds(message, "dispatch_deadline", 0)
    if not strictness.shortest_deadline <= deadline <= LONGEST_DEADLINE:
        raise invalid("Task.dispatchDeadline must be between [15s, 30m].")
    return deadline
