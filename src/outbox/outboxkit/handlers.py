"""The registry of job handlers: one module of them is imported by producers and workers alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar, get_type_hints

import msgspec

from outboxkit.job import Job

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_MAX_ATTEMPTS = 5
DEFAULT_TIMEOUT = 900.0


class Retry(Exception):  # noqa: N818 (raised as an instruction, not as an error)
    """Raised by a handler: this attempt is over, try again after `after` seconds (None: the usual backoff).

    It counts as an attempt: when none remain the job fails. Everything done through `job.session` is rolled back.
    """

    def __init__(self, reason: str = "the handler asked for a retry", *, after: float | None = None) -> None:
        if after is not None and after < 0:
            raise ValueError(f"Retry(after={after}); seconds, not negative")
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Fail(Exception):  # noqa: N818 (raised as an instruction, not as an error)
    """Raised by a handler: trying again is no use. The job fails at once, with a dead letter that gives `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidPayload(Exception):  # noqa: N818 (names what was found)
    """A job's payload is not what its handler takes; trying again is no use."""


class Handler(msgspec.Struct, frozen=True, kw_only=True):
    """One registered function and its limits."""

    kind: str
    function: Callable[..., Any]
    payload_type: Any
    max_attempts: int
    timeout: float
    is_async: bool

    def decode(self, payload: str) -> Any:
        """The payload as the handler's own type; raises InvalidPayload with the path of what is wrong."""
        model_validate = getattr(self.payload_type, "model_validate_json", None)
        try:
            if model_validate is not None:
                return model_validate(payload)
            return msgspec.json.decode(payload, type=self.payload_type)
        except ValueError as error:  # msgspec's and pydantic's errors both are
            raise InvalidPayload(f"{self.kind}: {error}") from error


class Handlers:
    """The handlers of one application, by kind."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Handler] = {}

    def register(
        self, kind: str, *, max_attempts: int = DEFAULT_MAX_ATTEMPTS, timeout: float = DEFAULT_TIMEOUT
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """A decorator for `async def f(payload: T, job: Job)`, or a plain `def`, which runs in a thread.

        The type of `payload` is taken from the annotation (msgspec Struct, dataclass, TypedDict, pydantic model, dict) and
        checked when a job arrives. `timeout` in seconds, always finite: past it the attempt is cancelled and counts as
        failed. A plain `def` cannot be interrupted: its lease ends with the timeout and the thread's outcome is refused.

        Raises ValueError or TypeError, at import, for a kind registered twice and for a signature that cannot work.
        """
        if kind in self._by_kind:
            raise ValueError(f"kind {kind!r} is registered twice: {self._by_kind[kind].function.__qualname__} has it")
        if not 1 <= len(kind) <= 200:
            raise ValueError(f"kind {kind!r} has {len(kind)} characters; wanted 1 to 200")
        if max_attempts < 1:
            raise ValueError(f"{kind}: max_attempts is {max_attempts}; at least 1")
        if not 0 < timeout < float("inf"):
            raise ValueError(f"{kind}: timeout is {timeout}; seconds, more than 0 and finite")

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            self._by_kind[kind] = Handler(
                kind=kind,
                function=function,
                payload_type=_payload_type(kind, function),
                max_attempts=max_attempts,
                timeout=timeout,
                is_async=inspect.iscoroutinefunction(function),
            )
            return function

        return decorate

    def include(self, other: Handlers) -> None:
        """Add every handler of another registry; raises ValueError when a kind is in both."""
        for handler in other:
            if handler.kind in self._by_kind:
                raise ValueError(f"kind {handler.kind!r} is registered twice")
            self._by_kind[handler.kind] = handler

    def get(self, kind: str) -> Handler | None:
        """The handler for a kind, or None."""
        return self._by_kind.get(kind)

    def kinds(self) -> list[str]:
        """The kinds there are handlers for, sorted."""
        return sorted(self._by_kind)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._by_kind.values())

    def __len__(self) -> int:
        return len(self._by_kind)


def _payload_type(kind: str, function: Callable[..., Any]) -> Any:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2:
        raise TypeError(f"{kind}: {function.__qualname__} takes {len(parameters)} arguments; wanted (payload, job)")
    payload, job = parameters
    hints = get_type_hints(function)
    if payload.name not in hints:
        raise TypeError(f"{kind}: annotate {payload.name!r} of {function.__qualname__}; its type says what is accepted")
    if hints.get(job.name, Job) is not Job:
        raise TypeError(f"{kind}: the second argument of {function.__qualname__} is the Job")
    return hints[payload.name]
