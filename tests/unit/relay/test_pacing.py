"""Backoff, rate, window, evidence and age: each with time and chance in the test's hands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxkit_relay.age import ServiceTime
from outboxkit_relay.backoff import Backoff
from outboxkit_relay.evidence import Evidence
from outboxkit_relay.rate import Combined, Ramp, TokenBucket
from outboxkit_relay.window import Window


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        """Begins anywhere."""
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_backoff_doubles_up_to_the_longest() -> None:
    """The worked examples of the docstring."""
    backoff = Backoff(base=1, longest=600)
    assert [backoff.ceiling(n) for n in (0, 1, 2, 3, 9, 10, 11)] == [1, 2, 4, 8, 512, 600, 600]


@given(failures=st.integers(-5, 10**12), base=st.floats(0.001, 100), longest=st.floats(0.001, 10**6))
def test_backoff_is_always_a_finite_wait(failures: int, base: float, longest: float) -> None:
    """Whatever the count, a delay lies between nothing and the longest: no exponent overflows."""
    assert 0 <= Backoff(base=base, longest=longest).delay(failures) <= longest


def test_jitter_is_full() -> None:
    """Both ends of the interval are drawn from."""
    lowest = Backoff(base=1, longest=600, uniform=lambda low, _: low)
    highest = Backoff(base=1, longest=600, uniform=lambda _, high: high)
    assert (lowest.delay(3), highest.delay(3)) == (0, 8)


def test_what_was_told_to_wait_comes_back_spread() -> None:
    """Jitter comes on top of Retry-After, never below it."""
    assert Backoff(base=1, longest=600, uniform=lambda _, high: high).delay(0, at_least=30) == 31


def test_a_bucket_lets_a_seconds_worth_through_at_once() -> None:
    """After a quiet time there is one second's worth, however long it was quiet."""
    clock = Clock()
    bucket = TokenBucket(100, clock=clock)
    clock.now += 3600
    assert bucket.available() == 100


@given(st.lists(st.floats(0, 3), max_size=50), st.floats(0.2, 1000))
def test_a_bucket_never_gives_more_than_its_rate(pauses: list[float], rate: float) -> None:
    """Over any stretch of time no more than rate · time and one burst is spent."""
    clock = Clock()
    bucket = TokenBucket(rate, clock=clock)
    spent = 0
    for pause in pauses:
        clock.now += pause
        tokens = bucket.available()
        bucket.spend(tokens)
        spent += tokens
    assert spent <= max(1.0, rate) + rate * (clock.now - 1000.0) + 1e-6


@pytest.mark.parametrize("rate", [0.1, 1, 40, 5000])
def test_a_bucket_says_how_long_to_wait(rate: float) -> None:
    """After the wait there are tokens worth a statement; before, there are not."""
    clock = Clock()
    bucket = TokenBucket(rate, clock=clock)
    bucket.spend(bucket.available())
    wait = bucket.wait()
    assert wait > 0
    clock.now += wait * 0.99
    assert bucket.wait() > 0
    clock.now += wait * 0.02
    assert bucket.wait() == 0
    assert bucket.available() >= max(1, int(rate * 0.05))


def drained(ramp: Ramp, clock: Clock, seconds: int, *, every: float = 1.0) -> int:
    """What a relay with an endless backlog sends within so many seconds."""
    bucket = TokenBucket(ramp=ramp, clock=clock)
    bucket.spend(bucket.available())
    sent = 0
    for _ in range(int(seconds / every)):
        clock.now += every
        tokens = bucket.available()
        bucket.spend(tokens)
        sent += tokens
    return sent


def test_a_ramp_begins_with_500_and_grows_by_half_every_five_minutes() -> None:
    """An endless backlog: 500 a second for five minutes, then 750, 1,125, 1,687 and so on."""
    clock = Clock()
    ramp = Ramp(clock=clock)
    bucket = TokenBucket(ramp=ramp, clock=clock)
    rates = []
    for _ in range(5):
        sent = 0
        for _ in range(300):
            tokens = bucket.available()
            bucket.spend(tokens)
            sent += tokens
            clock.now += 1
        rates.append(sent / 300)
    assert rates == pytest.approx([500, 750, 1125, 1687.5, 2531.25], rel=0.01)


def test_a_ramp_does_not_grow_unused() -> None:
    """Five quiet minutes, or an hour, are no reason to begin with more than 500."""
    clock = Clock()
    ramp = Ramp(clock=clock)
    assert drained(ramp, clock, 900) > 500 * 900
    for quiet in (301, 3600):
        clock.now += quiet
        ramp.limit()
        clock.now += 300
        assert ramp.limit() == 500
    for _ in range(3):  # a little traffic, an hour long
        drained(ramp, clock, 300, every=300)
        assert ramp.limit() == 500


@given(st.lists(st.tuples(st.floats(0.1, 400), st.booleans()), max_size=60))
def test_a_ramp_never_grows_by_more_than_half(steps: list[tuple[float, bool]]) -> None:
    """Whatever the traffic: a period's limit is 500, or at most half as much again as what the period before has seen."""
    clock = Clock()
    ramp = Ramp(clock=clock)
    bucket = TokenBucket(ramp=ramp, clock=clock)
    sent, began, before = 0, clock.now, 0.0
    for pause, spend in steps:
        clock.now += pause
        while clock.now - began >= 300:
            before, sent, began = sent / 300, 0, began + 300
        assert ramp.limit() <= max(500.0, 1.5 * before) + 1e-6
        if spend:
            tokens = bucket.available()
            bucket.spend(tokens)
            sent += tokens


def test_a_bucket_with_both_obeys_the_smaller() -> None:
    """A fixed limit below the ramp's holds, and the other way round."""
    clock = Clock()
    assert TokenBucket(100, ramp=Ramp(clock=clock), clock=clock).available() == 100
    assert TokenBucket(10_000, ramp=Ramp(clock=clock), clock=clock).available() == 500


def test_combined_limits_hold_each() -> None:
    """As much as the tightest allows, as late as the slowest allows, and spent from both."""
    clock = Clock()
    shared, own = TokenBucket(100, clock=clock), TokenBucket(10, clock=clock)
    both = Combined([shared, own])
    assert both.available() == 10
    both.spend(10)
    assert (shared.available(), own.available()) == (90, 0)
    assert both.wait() == own.wait() > shared.wait() == 0


def test_a_window_halves_once_for_all_that_was_sent_before() -> None:
    """A hundred refusals of one crowd halve it once; the next crowd's halve it again."""
    window = Window(128)
    for _ in range(100):
        window.full(sent_at=1, now=2)
    assert window.size == 64
    window.full(sent_at=3, now=4)
    assert window.size == 32


def test_a_window_widens_by_one_a_round() -> None:
    """As many acks as the window holds widen it by one, and never beyond where it began."""
    window = Window(10)
    window.full(sent_at=1, now=2)
    assert window.size == 5
    for _ in range(6):
        window.acked()
    assert window.size == 6
    for _ in range(1000):
        window.acked()
    assert window.size == 10


def test_a_window_never_closes() -> None:
    """However often the worker is full, one delivery is tried."""
    window = Window(128)
    for second in range(50):
        window.full(sent_at=second, now=second + 0.5)
    assert window.size == 1


def test_a_fault_counts_only_after_an_ack_since_the_last() -> None:
    """†: the first fault never counts, nor any other without an ack between; with one it does."""
    evidence = Evidence()
    assert not evidence.counts(7)
    assert not evidence.counts(7)
    evidence.acked()
    assert evidence.counts(7)
    assert not evidence.counts(7)
    assert not evidence.counts(8)


def test_evidence_is_bounded_and_errs_on_the_rows_side() -> None:
    """A row that was forgotten counts as never faulted."""
    evidence = Evidence(remembered=2)
    for row in (1, 2, 3):
        evidence.counts(row)
    evidence.acked()
    assert not evidence.counts(1)
    assert evidence.counts(3)


def test_service_time_reaches_back_over_pauses() -> None:
    """Ten seconds of service with a pause of a hundred in the middle began a hundred and ten seconds ago."""
    clock = Clock()
    service = ServiceTime(clock=clock)
    service.resume()
    clock.now += 6
    service.pause()
    clock.now += 100
    service.resume()
    clock.now += 6
    assert service.reach(10) == 110
    assert service.reach(6) == 6


def test_service_time_does_not_reach_beyond_the_start() -> None:
    """What was before this process is not known, and does not count."""
    clock = Clock()
    service = ServiceTime(clock=clock)
    clock.now += 1000
    assert service.reach(1) is None
    service.resume()
    clock.now += 0.5
    assert service.reach(1) is None
    clock.now += 0.5
    assert service.reach(1) == 1


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=1, max_size=20), st.floats(0.1, 50))
def test_a_reach_holds_exactly_so_much_service(spans: list[tuple[float, float]], seconds: float) -> None:
    """Between the reach and now lies exactly as much service time as was asked for, also when asked again and again."""
    clock = Clock()
    service = ServiceTime(clock=clock)
    served: list[tuple[float, float]] = []
    for work, pause in spans:
        service.resume()
        begin = clock.now
        clock.now += work
        served.append((begin, clock.now))
        reach = service.reach(seconds)
        if reach is None:
            assert sum(end - begin for begin, end in served) < seconds + 1e-6
        else:
            since = clock.now - reach
            assert sum(max(0.0, end - max(begin, since)) for begin, end in served) == pytest.approx(seconds)
        service.pause()
        clock.now += pause
