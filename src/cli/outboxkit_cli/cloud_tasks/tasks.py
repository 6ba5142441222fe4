"""A task and its attempts, as the queue sees them. Times are seconds since 1970."""

from dataclasses import dataclass, field

from outboxkit_cli.cloud_tasks.retries import RetryConfig

USER_AGENT = "Google-Cloud-Tasks"

# The status that Google reports for an attempt that was not answered within its deadline.
DEADLINE_STATUS = 504


@dataclass(frozen=True, kw_only=True)
class OidcToken:
    """Whose identity token a dispatch carries; an empty audience means the task's URL."""

    email: str
    audience: str = ""


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """The request that a dispatch sends."""

    url: str
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    oidc: OidcToken | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a dispatch: the worker's status, 504 for none within the deadline, 0 for no connection."""

    status: int
    retry_after: float | None = None
    """Seconds that the worker asked for."""
    received: bool = True
    """Whether it is an answer of the worker's."""

    @property
    def success(self) -> bool:
        """Tell whether the task is done."""
        return self.received and 200 <= self.status < 300


NO_ANSWER = Answer(status=DEADLINE_STATUS, received=False)
NO_CONNECTION = Answer(status=0, received=False)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One dispatch; it has been answered, or given up, when `ended` is set."""

    number: int
    """1 for the first."""
    scheduled: float
    dispatched: float
    executions: int
    """Answers other than 5xx before it."""
    previous: Answer | None = None
    ended: float | None = None
    answer: Answer | None = None


@dataclass(kw_only=True, eq=False)
class Task:
    """A task of a queue. The queue alone changes it."""

    name: str
    request: HttpRequest
    scheduled: float
    created: float
    deadline: float = 600.0
    """Seconds for each dispatch."""
    retries: RetryConfig | None = None
    """The task's own retry settings, which replace its queue's."""
    not_before: float = 0.0
    """A dispatch that is late without the schedule saying so: see `Faults.delay`."""
    lost: bool = False
    """Never dispatched, though it stands in its queue: see `Faults.lost`."""
    dispatch_count: int = 0
    response_count: int = 0
    execution_count: int = 0
    first_dispatched: float | None = None
    last: Attempt | None = None

    @property
    def due(self) -> float:
        """Return when it may be dispatched."""
        return max(self.scheduled, self.not_before)

    def begin(self, now: float) -> Attempt:
        """Count a dispatch and return it."""
        previous = self.last.answer if self.last is not None else None
        self.dispatch_count += 1
        self.first_dispatched = self.first_dispatched if self.first_dispatched is not None else now
        self.last = Attempt(
            number=self.dispatch_count,
            scheduled=self.scheduled,
            dispatched=now,
            executions=self.execution_count,
            previous=previous,
        )
        return self.last

    def end(self, attempt: Attempt, answer: Answer, now: float) -> None:
        """Count what came of a dispatch."""
        self.response_count += answer.received
        self.execution_count += answer.received and answer.status < 500
        self.last = Attempt(
            number=attempt.number,
            scheduled=attempt.scheduled,
            dispatched=attempt.dispatched,
            executions=attempt.executions,
            previous=attempt.previous,
            ended=now,
            answer=answer,
        )
