"""A job in every state that a trigger can find one in, and the answers that are due to each."""

from __future__ import annotations

from enum import Enum, auto
from uuid import UUID, uuid4

from contract.worker import raw
from contract.worker.scene import Scene
from workers import Worker


class State(Enum):
    """What a trigger may find."""

    UNKNOWN = auto()
    QUEUED = auto()
    WILL_RETRY = auto()
    WILL_FAIL = auto()
    RUNNING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELLED = auto()
    NOT_DUE = auto()
    UNKNOWN_KIND = auto()


Due = tuple[int, str] | tuple[int, str, bool]

ANSWERS: dict[State, set[Due]] = {
    State.UNKNOWN: {(404, "unknown-job")},
    State.QUEUED: {(202, "running", False), (200, "succeeded", False)},
    State.WILL_RETRY: {(202, "running", False), (200, "queued", False)},
    State.WILL_FAIL: {(202, "running", False), (200, "failed", False)},
    State.RUNNING: {(202, "running", True)},
    State.SUCCEEDED: {(200, "succeeded", True)},
    State.FAILED: {(200, "failed", True)},
    State.CANCELLED: {(200, "cancelled", True)},
    State.NOT_DUE: {(409, "not-due")},
    State.UNKNOWN_KIND: {(422, "unknown-kind")},
}
"""Status and problem type, or status, state and whether it is a duplicate."""

KINDS = {State.QUEUED: "NOOP", State.WILL_RETRY: "RETRY", State.WILL_FAIL: "FAIL", State.UNKNOWN_KIND: "NOBODY_S"}


class Stock:
    """Jobs of a scene: those that a trigger changes are made anew for every trigger."""

    def __init__(self, scene: Scene, worker: Worker) -> None:
        """`worker` runs the running one: its gate must stay closed."""
        self._jobs = scene.jobs
        self._lasting = {
            State.RUNNING: self._triggered(worker, "WAIT"),
            State.SUCCEEDED: self._triggered(worker, "NOOP", prefer="wait=20"),
            State.FAILED: self._triggered(worker, "FAIL", prefer="wait=20"),
            State.CANCELLED: self._cancelled(),
            State.NOT_DUE: self._jobs.enqueue("NOOP", due_in=36_000),
        }

    def take(self, state: State) -> UUID:
        """The id of a job in this state."""
        if state is State.UNKNOWN:
            return uuid4()
        return self._lasting.get(state) or self._jobs.enqueue(KINDS[state])

    def _triggered(self, worker: Worker, kind: str, **headers: str) -> UUID:
        job: UUID = self._jobs.enqueue(kind)
        response = worker.trigger(job, x_worker_trigger=raw.SECRET, **headers)
        assert response.status_code in (200, 202), response.text
        return job

    def _cancelled(self) -> UUID:
        job: UUID = self._jobs.enqueue("NOOP")
        self._jobs.connection.execute(
            "update outboxkit.jobs set state = 'cancelled', finished_at = clock_timestamp() where id = %s", [job]
        )
        return job
