"""The breaker as a state machine: what opens it, what closes it, and how seldom it probes."""

import math

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outboxkit_relay.breaker import BELIEVED_REFUSALS, Breaker, State

BASE, LONGEST, FAULTS = 0.5, 30.0, 5


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        """Begins anywhere."""
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def make(clock: Clock, *, uniform: float = 1.0) -> Breaker:
    """A breaker whose jitter always comes out the same: 0 the shortest, 1 the longest."""
    return Breaker(
        faults=FAULTS, base=BASE, longest=LONGEST, clock=clock, uniform=lambda low, high: low + uniform * (high - low)
    )


def opened(clock: Clock, *, uniform: float = 1.0) -> Breaker:
    """A breaker that faults have just opened."""
    breaker = make(clock, uniform=uniform)
    for _ in range(FAULTS):
        breaker.faulted()
    assert breaker.state is State.OPEN
    return breaker


def test_faults_in_a_row_open_it() -> None:
    """Four faults leave it closed, the fifth opens it."""
    breaker = make(Clock())
    for _ in range(FAULTS - 1):
        breaker.faulted()
    assert not breaker.is_open
    breaker.faulted()
    assert breaker.is_open


@pytest.mark.parametrize("event", ["acked", "answered", "refused"])
def test_any_answer_of_a_worker_ends_a_row_of_faults(event: str) -> None:
    """Faults count in a row only: an answer between them starts the count anew."""
    breaker = make(Clock())
    for _ in range(3):
        for _ in range(FAULTS - 1):
            breaker.faulted()
        getattr(breaker, event)()
    assert not breaker.is_open


def test_waits_double_up_to_the_longest() -> None:
    """Each probe that fails doubles the wait, and none is longer than the longest."""
    clock = Clock()
    breaker = opened(clock)
    waits = []
    for _ in range(10):
        waits.append(breaker.wait())
        clock.now += breaker.wait()
        breaker.probe()
        breaker.faulted()
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_jitter_takes_off_up_to_half() -> None:
    """The shortest wait is half the longest one."""
    assert opened(Clock(), uniform=0.0).wait() == BASE / 2


def test_retry_after_is_waited_for_up_to_the_longest() -> None:
    """A Retry-After beyond the backoff delays the probe, but not beyond the longest wait."""
    for retry_after, wait in ((0.1, 0.5), (7, 7), (3600, LONGEST)):
        breaker = make(Clock())
        for _ in range(FAULTS):
            breaker.faulted(retry_after=retry_after)
        assert breaker.wait() == wait


def test_one_probe_at_a_time() -> None:
    """While a probe is under way there is no time at which another may go, unless the first was not sent."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    assert breaker.wait() == 0
    breaker.probe()
    assert breaker.wait() == math.inf
    breaker.spared()
    assert breaker.wait() == 0


def test_late_faults_do_not_lengthen_the_wait() -> None:
    """Deliveries that were under way when it opened fail one after the other: the probe's time stays."""
    clock = Clock()
    breaker = opened(clock)
    for _ in range(100):
        breaker.faulted()
    assert breaker.wait() == BASE


def test_after_refusals_only_an_ack_closes_it() -> None:
    """Four refusals in a row are believed, the fifth opens it; other answers leave it open, and refusals then are not."""
    clock = Clock()
    breaker = make(clock)
    assert [breaker.refused() for _ in range(6)] == [True] * 4 + [False] * 2
    clock.now += breaker.wait()
    breaker.probe()
    breaker.answered()
    assert breaker.state is State.OPEN
    clock.now += breaker.wait()
    breaker.probe()
    assert not breaker.refused()
    assert breaker.state is State.OPEN
    breaker.acked()
    assert not breaker.is_open
    assert breaker.refused()


def test_after_faults_any_answer_closes_it() -> None:
    """A worker that says 429 is a worker: what was broken works."""
    breaker = opened(Clock())
    breaker.probe()
    breaker.answered()
    assert not breaker.is_open


class BreakerMachine(RuleBasedStateMachine):
    """Any events in any order, against what must always hold."""

    def __init__(self) -> None:
        """A new breaker, and what was seen since the last ack."""
        super().__init__()
        self.clock = Clock()
        self.breaker = make(self.clock, uniform=0.0)
        self.believed = 0
        self.faults = 0
        self.last_probe = -math.inf

    @rule()
    def ack(self) -> None:
        """An ack closes it, always."""
        self.breaker.acked()
        self.believed = self.faults = 0
        self.last_probe = -math.inf
        assert self.breaker.state is State.CLOSED

    @rule()
    def answer(self) -> None:
        """An answer never opens it."""
        was_open = self.breaker.is_open
        self.breaker.answered()
        self.faults = 0
        assert was_open or not self.breaker.is_open

    @rule(retry_after=st.none() | st.integers(0, 3600))
    def fault(self, retry_after: int | None) -> None:
        """A fault never closes it, and opens it exactly when it is the fifth in a row."""
        was_open = self.breaker.is_open
        self.breaker.faulted(retry_after=retry_after)
        self.faults += 1
        assert self.breaker.is_open == (was_open or self.faults >= FAULTS)

    @rule()
    def refusal(self) -> None:
        """A refusal is believed only while closed, and at most four times between two acks."""
        was_open = self.breaker.is_open
        believed = self.breaker.refused()
        self.faults = self.faults + 1 if was_open else 0
        self.believed += believed
        assert not (believed and was_open)
        assert believed or self.breaker.is_open

    @precondition(lambda self: self.breaker.state is State.OPEN and self.breaker.wait() == 0)
    @rule()
    def probe(self) -> None:
        """A probe may go once the wait is over."""
        self.breaker.probe()
        assert self.breaker.wait() == math.inf

    @precondition(lambda self: self.breaker.state is State.PROBING)
    @rule()
    def spare(self) -> None:
        """A probe that was not sent costs no wait."""
        self.breaker.spared()
        assert self.breaker.wait() == 0

    @rule(seconds=st.floats(0, 40))
    def pass_time(self, seconds: float) -> None:
        """Time passes, and changes no state by itself."""
        state = self.breaker.state
        self.clock.now += seconds
        assert self.breaker.state is state

    @invariant()
    def waits_are_bounded(self) -> None:
        """No wait is longer than the longest: a mended endpoint is found out."""
        if self.breaker.state is State.OPEN:
            assert 0 <= self.breaker.wait() <= LONGEST

    @invariant()
    def few_refusals_are_believed(self) -> None:
        """At most four between two acks, whatever else happens."""
        assert self.believed <= BELIEVED_REFUSALS


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = hypothesis_settings(max_examples=200, stateful_step_count=40, deadline=None)
