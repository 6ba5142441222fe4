"""What can be made to go wrong, while the server runs: in Google's service, or in the rights of whoever calls it."""

import random
from typing import Annotated, Final, Literal

import msgspec

ANY: Final = "*"

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Code = Literal[
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]


class CallFault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How calls of one method fail."""

    code: Code = "UNAVAILABLE"
    message: str = "made to fail"
    times: int | None = None
    """How many calls; all while this is None."""
    after: bool = False
    """Do what was asked, and then fail: the answer alone is lost."""


class Faults(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every fault, all off at first. Plain attributes, to be set at any time.

    `lost`, `vanished` and `twice` are shares of the tasks, from 0 to 1 (1: every one). The first two are decided when a task
    is made, the last at each dispatch.
    """

    lost: Share = 0.0
    """Made and then never dispatched: it stands in its queue until it is deleted or run by hand."""
    vanished: Share = 0.0
    """Made, as the answer says, and gone at once: nobody finds it any more, and its name is used up."""
    twice: Share = 0.0
    """Dispatched twice at the same time; the first request's answer counts."""
    delay: float = 0.0
    """Seconds by which the first dispatch of each task that is made is late."""
    expired_tokens: bool = False
    """Identity tokens have run out an hour ago."""
    strip_signatures: bool = False
    """The worker gets tokens as a container on Cloud Run gets them after IAM has checked them: without the signature."""
    calls: dict[str, CallFault] = msgspec.field(default_factory=dict)
    """Failing calls by the name of their method, such as CreateTask; `*` is every method."""
    denied: set[str] = msgspec.field(default_factory=set)
    """Permissions that the caller lacks, such as cloudtasks.tasks.get."""
    usable_accounts: set[str] | None = None
    """The service accounts that the caller may act as (iam.serviceAccounts.actAs); None: any."""

    def update(self, other: "Faults") -> None:
        """Take over another's settings."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))

    def call(self, method: str) -> CallFault | None:
        """Return how this call fails, if it does, and count it."""
        fault = self.calls.get(method) or self.calls.get(ANY)
        if fault is None or fault.times == 0:
            return None
        if fault.times is not None:
            fault.times -= 1
        return fault


class Dice:
    """Decides which tasks a fault meets; the same seed decides the same."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 (which tasks get lost is no secret)

    def meets(self, share: float) -> bool:
        """Tell whether the fault meets this task."""
        return share > 0 and self._random.random() < share
