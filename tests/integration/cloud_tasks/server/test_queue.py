"""The logic of a queue on a clock that the test holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outboxkit_cli.cloud_tasks.queues import RETENTION, TaskQueue
from outboxkit_cli.cloud_tasks.rates import RateLimits
from outboxkit_cli.cloud_tasks.refusals import Refusal
from outboxkit_cli.cloud_tasks.retries import RetryConfig
from outboxkit_cli.cloud_tasks.tasks import NO_ANSWER, NO_CONNECTION, Answer, Attempt, HttpRequest, Task

QUEUE = "projects/p/locations/l/queues/q"
START = 1_764_000_000.0
OK, BUSY = Answer(status=200), Answer(status=503)


@dataclass
class Bench:
    """A queue and the time."""

    queue: TaskQueue
    now: float = START
    running: list[tuple[Task, Attempt]] = field(default_factory=list)

    def add(self, name: str = "t", *, after: float = 0.0, retries: RetryConfig | None = None) -> Task:
        """Put a task in that is due in so many seconds."""
        task = Task(
            name=f"{QUEUE}/tasks/{name}",
            request=HttpRequest(url="http://worker"),
            scheduled=self.now + after,
            created=self.now,
            retries=retries,
        )
        self.queue.add(task, self.now)
        return task

    def take(self) -> list[str]:
        """Take what is due now; return the ids."""
        taken = list(self.queue.take(self.now))
        self.running += taken
        return [task.name.rpartition("/")[2] for task, _ in taken]

    def settle(self, answer: Answer = OK, index: int = 0) -> None:
        """Say what came of an attempt that is under way."""
        task, attempt = self.running.pop(index)
        self.queue.settle(task, attempt, answer, self.now)

    def fail(self, answer: Answer = BUSY) -> float:
        """Let an attempt fail; return the seconds until the next is due."""
        self.settle(answer)
        due = self.queue.next_due(self.now)
        assert due is not None
        return due - self.now

    def names(self) -> list[str]:
        """The ids of the tasks that stand in the queue."""
        return [task.name.rpartition("/")[2] for task in self.queue]


def bench(retries: RetryConfig | None = None, *, tombstones: float = 3600, **limits: float) -> Bench:
    """A new queue."""
    return Bench(
        TaskQueue(
            QUEUE,
            retries=retries or RetryConfig(),
            limits=RateLimits(**limits),  # type: ignore[arg-type]
            now=START,
            tombstone_seconds=tombstones,
        )
    )


def refused(error: pytest.ExceptionInfo[Refusal]) -> tuple[str, str]:
    """The code of a refusal and the first words of its message."""
    return error.value.code, " ".join(error.value.message.split()[:3])


def test_a_task_is_due_at_its_time_and_not_before() -> None:
    """The queue says when to look again, and yields the task then."""
    it = bench()
    it.add(after=10)
    assert it.take() == []
    assert it.queue.next_due(it.now) == START + 10
    it.now += 10
    assert it.take() == ["t"]
    assert it.queue.next_due(it.now) is None


def test_a_success_deletes_the_task() -> None:
    """Any 2xx is a success; the name is then used up, for an hour."""
    it = bench()
    task = it.add()
    it.take()
    it.settle(Answer(status=204))
    assert it.names() == []
    with pytest.raises(Refusal) as gone:
        it.queue.get(task.name, it.now)
    with pytest.raises(Refusal) as used:
        it.add()
    assert refused(gone) == ("NOT_FOUND", "The task no")
    assert refused(used) == ("ALREADY_EXISTS", "The task cannot")
    it.now += 3599
    with pytest.raises(Refusal):
        it.add()
    it.now += 1
    it.add()


def test_a_name_in_use_is_refused_in_other_words() -> None:
    """What still stands in the queue is told from what is gone."""
    it = bench()
    it.add()
    with pytest.raises(Refusal) as error:
        it.add()
    assert refused(error) == ("ALREADY_EXISTS", "Requested entity already")


@pytest.mark.parametrize("answer", [Answer(status=302), Answer(status=404), BUSY, NO_ANSWER, NO_CONNECTION])
def test_everything_else_is_tried_again(answer: Answer) -> None:
    """Other answers and silence wait for the backoff, from the time of the failure."""
    it = bench(RetryConfig(min_backoff=10, max_backoff=300, max_doublings=3))
    it.add()
    found = []
    for _ in range(8):
        it.now += 1000
        assert it.take() == ["t"]
        it.now += 7  # the attempt took a while
        found.append(it.fail(answer))
    assert found == pytest.approx([10, 20, 40, 80, 160, 240, 300, 300])


def test_retry_after_makes_a_wait_longer_and_never_shorter() -> None:
    """The worker's own wish counts when it is longer than the backoff."""
    it = bench(RetryConfig(min_backoff=10, max_backoff=300))
    it.add()
    it.take()
    assert it.fail(Answer(status=429, retry_after=90)) == pytest.approx(90)
    it.now += 90
    it.take()
    assert it.fail(Answer(status=429, retry_after=1)) == pytest.approx(20)


def test_an_exhausted_task_is_deleted_silently() -> None:
    """After the last attempt nothing is left but the name that may not be used."""
    it = bench(RetryConfig(max_attempts=2, min_backoff=1))
    it.add()
    it.take()
    it.settle(BUSY)
    it.now += 1
    it.take()
    assert it.names() == ["t"]
    it.settle(BUSY)
    assert it.names() == []
    with pytest.raises(Refusal):
        it.add()


def test_a_task_goes_on_past_its_attempts_until_its_time_is_up() -> None:
    """With both limits set the second one to pass ends the task, and a retry that comes due later is not sent."""
    it = bench(RetryConfig(max_attempts=1, max_retry_duration=25, min_backoff=10, max_doublings=0))
    it.add()
    it.take()
    assert it.fail() == pytest.approx(10)
    it.now += 10
    assert it.take() == ["t"]
    assert it.fail() == pytest.approx(20)
    it.now += 20
    assert it.take() == []
    assert it.names() == []


def test_a_task_s_own_retry_settings_replace_the_queue_s() -> None:
    """One attempt, for this task alone."""
    it = bench()
    it.add(retries=RetryConfig(max_attempts=1))
    it.take()
    it.settle(BUSY)
    assert it.names() == []


def test_a_task_is_deleted_after_31_days() -> None:
    """Whether it was ever dispatched or not."""
    it = bench(RetryConfig(max_attempts=-1))
    it.queue.paused = True
    it.add()
    it.now += RETENTION
    it.queue.paused = False
    assert it.take() == []
    assert it.names() == []


def test_a_paused_queue_dispatches_nothing() -> None:
    """And takes tasks in meanwhile; what is under way goes on."""
    it = bench()
    it.add("early")
    it.take()
    it.queue.paused = True
    it.add("late")
    assert it.take() == []
    assert it.queue.next_due(it.now) is None
    it.settle()
    it.queue.paused = False
    assert it.take() == ["late"]


def test_no_more_run_at_once_than_are_allowed() -> None:
    """An attempt that ends, however, makes room for the next."""
    it = bench(max_concurrent_dispatches=2)
    for name in "abc":
        it.add(name)
    assert it.take() == ["a", "b"]
    assert it.queue.next_due(it.now) is None
    it.settle(BUSY)
    assert it.take() == ["c"]


def test_the_rate_is_a_token_bucket() -> None:
    """As many as the burst at once, then one for each token."""
    it = bench(max_dispatches_per_second=2, max_burst_size=3)
    for name in "abcdef":
        it.add(name)
    assert it.take() == ["a", "b", "c"]
    assert it.queue.next_due(it.now) == pytest.approx(START + 0.5)
    it.now += 0.5
    assert it.take() == ["d"]
    it.now += 1
    assert it.take() == ["e", "f"]


def test_forcing_a_task_heeds_nothing() -> None:
    """Neither pause nor schedule nor limits; a success deletes the task, a failure schedules it from now."""
    it = bench(RetryConfig(min_backoff=10), max_concurrent_dispatches=1)
    task, other = it.add(after=1000), it.add("other", after=1000)
    it.queue.paused = True
    attempts = [(each, it.queue.begin(each, it.now)) for each in (task, other)]
    it.queue.settle(*attempts[0], BUSY, it.now)
    it.queue.settle(*attempts[1], OK, it.now)
    assert (it.names(), task.scheduled) == (["t"], START + 10)
    it.queue.paused = False
    it.now += 10
    assert it.take() == ["t"]
    it.now += 1000
    assert it.take() == []


def test_nothing_comes_of_an_attempt_whose_task_was_deleted() -> None:
    """A failure does not bring it back, and the room it took is free again."""
    it = bench(max_concurrent_dispatches=1)
    task = it.add()
    it.take()
    it.queue.delete(task.name, it.now)
    it.settle(BUSY)
    it.add("next")
    assert (it.take(), it.names()) == (["next"], ["next"])
    it.settle()
    it.now += 1000
    assert it.take() == []


def test_a_purge_deletes_everything_there_is() -> None:
    """And nothing that comes after it."""
    it = bench()
    it.add("a")
    it.add("b", after=50)
    it.queue.purge(it.now)
    it.add("c")
    assert (it.take(), it.names()) == (["c"], ["c"])


def test_executions_leave_out_what_the_worker_never_answered_for() -> None:
    """Dispatches count all, responses those that were answered, executions those that were answered without a 5xx."""
    it = bench(RetryConfig(min_backoff=0))
    task = it.add()
    seen = []
    for answer in (BUSY, Answer(status=404), NO_ANSWER, Answer(status=429), NO_CONNECTION, OK):
        it.take()
        attempt = it.running[0][1]
        seen.append((attempt.number, attempt.executions, attempt.previous and attempt.previous.status))
        it.settle(answer)
    assert seen == [(1, 0, None), (2, 0, 503), (3, 1, 404), (4, 1, 504), (5, 2, 429), (6, 2, 0)]
    assert (task.dispatch_count, task.response_count) == (6, 4)


def test_an_overlapping_attempt_does_not_schedule_twice() -> None:
    """A task that was forced while it ran is due once, when both have failed."""
    it = bench(RetryConfig(min_backoff=10))
    task = it.add()
    it.take()
    forced = it.queue.begin(task, it.now)
    it.settle(BUSY)
    it.queue.settle(task, forced, BUSY, it.now)
    it.now += 1000
    assert it.take() == ["t"]
    assert it.take() == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "later", "jump", "ok", "fail", "delete", "pause"]), st.integers(0, 9)),
    max_size=80,
)


def play(it: Bench, steps: list[tuple[str, int]]) -> Iterator[list[str]]:
    """Do what the steps say, and take what is due after each."""
    for number, (step, value) in enumerate(steps):
        if step in ("add", "later"):
            it.add(str(number), after=value / 2 if step == "later" else 0)
        elif step == "jump":
            it.now += value / 4
        elif step in ("ok", "fail") and it.running:
            it.settle(OK if step == "ok" else BUSY, value % len(it.running))
        elif step == "delete" and it.names():
            it.queue.delete(f"{QUEUE}/tasks/{it.names()[value % len(it.names())]}", it.now)
        elif step == "pause":
            it.queue.paused = not it.queue.paused
        yield it.take()


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_whatever_happens_the_limits_hold_and_every_task_ends(steps: list[tuple[str, int]]) -> None:
    """Nothing is sent early, twice at once, too fast or beyond the limit; and in the end nothing is left over."""
    it = bench(
        RetryConfig(min_backoff=0.5, max_attempts=4),
        max_dispatches_per_second=2,
        max_burst_size=3,
        max_concurrent_dispatches=4,
    )
    sent = 0
    for taken in play(it, steps):
        sent += len(taken)
        assert len(it.running) <= 4
        assert sent <= 3 + 2 * (it.now - START) + 0.01
        assert all(attempt.scheduled <= it.now for _, attempt in it.running)
    it.queue.paused = False
    for _ in range(1000):
        while it.running:
            it.settle(BUSY)
        due = it.queue.next_due(it.now)
        if due is None:
            break
        it.now = max(it.now, due)
        it.take()
    assert it.names() == []
