"""Named instants inside the critical sections, at which a process can be made to die or to freeze.

The chaos program arms a point by putting a file into a folder; the first process that comes by takes the file, which is
atomic, and does what it says to itself. The kit knows nothing of this: its functions are wrapped from outside, in the
processes under attack alone (`chaos.role`).
"""

import os
import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

POINTS = (
    "web.before-commit",
    "web.after-commit",
    "relay.before-claim",
    "relay.after-claim",
    "relay.mid-batch",
    "relay.after-send",
    "relay.before-settle",
    "relay.before-retry",
    "relay.after-settle",
    "relay.mid-hand-over",
    "relay.after-create",
    "worker.before-claim",
    "worker.after-claim",
    "worker.in-handler",
    "worker.before-completion",
    "worker.after-completion",
)
ACTIONS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}
FOLDER = "CHAOS_POINTS"


class Points:
    """The folder, as the chaos program sees it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def arm(self, point: str, action: str) -> None:
        """From now on the next process that reaches the point does this to itself."""
        assert point in POINTS, point
        draft = self._folder / "draft"
        draft.write_text(action)
        draft.rename(self._folder / point)

    def sprung(self, point: str) -> int | None:
        """The process id of the one that reached it, None while nobody has."""
        for found in self._folder.glob(f"{point}.*"):
            return int(found.suffix.removeprefix("."))
        return None

    def clear(self) -> None:
        """Disarm every point."""
        for file in self._folder.iterdir():
            file.unlink(missing_ok=True)


def reach(point: str) -> None:
    """Die or freeze here, if the point is armed and nobody was faster; costs one system call if it is not."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    armed = f"{folder}/{point}"
    taken = f"{armed}.{os.getpid()}"
    try:
        os.rename(armed, taken)  # noqa: PTH104 (no Path on this path)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), ACTIONS[Path(taken).read_text()])


def install(role: str) -> None:
    """Wrap the functions of this role between whose start and end the points lie."""
    {"web": _in_web, "relay": _in_relay, "worker": _in_worker}[role]()


def _in_web() -> None:
    # web.before-commit stands in the application's own route.
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    event.listen(Session, "after_commit", lambda _: reach("web.after-commit"))


def _in_relay() -> None:
    from outboxkit_relay import triggers
    from outboxkit_relay.settlement import Settlement
    from outboxkit_relay.transports.cloud_tasks import CloudTasksTransport
    from outboxkit_relay.transports.http import HttpTransport

    _wrap(triggers, "claim", before="relay.before-claim", after="relay.after-claim")
    execute: Any = Settlement._execute

    async def executing(settlement: Any, name: str, *arguments: Any) -> Any:
        reach("relay.before-settle")
        if name == "retry_triggers":
            reach("relay.before-retry")
        found = await execute(settlement, name, *arguments)
        reach("relay.after-settle")
        return found

    Settlement._execute = executing  # type: ignore[method-assign] # that is the point of it
    _wrap_delivery(HttpTransport, one="relay.after-send", among_others="relay.mid-batch")
    _wrap_delivery(CloudTasksTransport, one="relay.after-create", among_others="relay.mid-hand-over")


def _wrap_delivery(transport: Any, *, one: str, among_others: str) -> None:
    """Points after each delivery, and after one that leaves others under way."""
    deliver, under_way = transport.deliver, 0

    async def delivering(*arguments: Any) -> Any:
        nonlocal under_way
        under_way += 1
        try:
            outcome = await deliver(*arguments)
        finally:
            under_way -= 1
        reach(one)
        if under_way:
            reach(among_others)
        return outcome

    transport.deliver = delivering


def _in_worker() -> None:
    # worker.in-handler stands in the application's own handler.
    from outboxkit import leases
    from outboxkit_worker.session import JobSession

    for claim in ("claim_by_ids", "claim_due"):
        _wrap(leases, claim, before="worker.before-claim", after="worker.after-claim")
    for owner, complete in ((leases, "complete"), (JobSession, "complete")):
        _wrap(owner, complete, before="worker.before-completion", after="worker.after-completion")


def _wrap(owner: Any, name: str, *, before: str, after: str) -> None:
    function: Callable[..., Awaitable[Any]] = getattr(owner, name)

    @wraps(function)
    async def wrapped(*arguments: Any, **options: Any) -> Any:
        reach(before)
        found = await function(*arguments, **options)
        # A claim that got nothing is no claim; the others return nothing, or what they wrote.
        if found is None or found:
            reach(after)
        return found

    setattr(owner, name, wrapped)
