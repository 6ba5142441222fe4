"""What an answer means for a row: decisions, without a network and without a database."""

from uuid import uuid4

import pytest

from outboxkit_contracts.actions import Action, Verdict, no_answer
from outboxkit_relay.backoff import Backoff
from outboxkit_relay.breaker import Breaker
from outboxkit_relay.decisions import Ack, Bury, Decision, Retry
from outboxkit_relay.endpoint import Endpoint
from outboxkit_relay.transports import Outcome
from outboxkit_relay.triggers import Queues, Trigger
from outboxkit_relay.window import Window

BASE = 1.0


class NoTransport:
    """Never used: judging does no I/O."""

    async def deliver(self, trigger: Trigger) -> Outcome:
        """Not called."""
        raise AssertionError(trigger)

    async def close(self) -> None:
        """Not called."""


def endpoint(*, max_attempts: int = 3, jitter: float = 0.0) -> Endpoint:
    """An endpoint whose backoff always draws the same part of its interval."""
    return Endpoint(
        name="http://worker",
        queues=Queues(),
        transport=NoTransport(),
        breaker=Breaker(faults=5, base=0.5, longest=30),
        window=Window(16),
        backoff=Backoff(base=BASE, longest=600, uniform=lambda low, high: low + jitter * (high - low)),
        max_attempts=max_attempts,
    )


def row(number: int = 1, *, attempts: int = 0) -> Trigger:
    """A claimed row."""
    return Trigger(0.0, number, uuid4(), "default", "K", None, 1, attempts, 0.0)


def judged(where: Endpoint, verdict: Verdict, trigger: Trigger | None = None, *, status: int | None = None) -> Decision:
    """What the endpoint makes of a verdict."""
    return where.judge(trigger or row(), Outcome(verdict, status), sent_at=1.0, now=2.0)


ACK = Verdict(Action.ACK, "accepted")


def test_an_ack_is_an_ack() -> None:
    """Nothing else is needed."""
    assert judged(endpoint(), ACK) == Ack()


@pytest.mark.parametrize(
    ("action", "counted"), [(Action.RETRY, True), (Action.RETRY_THEN, False), (Action.SLOW_DOWN, False)]
)
def test_what_counts(action: Action, counted: bool) -> None:
    """Only a failure of the worker's counts; too early and too full are nobody's."""
    decision = judged(endpoint(), Verdict(action, "why", message="words"))
    assert decision == Retry(delay=0.0, counted=counted, error="why: words")


@pytest.mark.parametrize("action", [Action.RETRY_THEN, Action.SLOW_DOWN])
def test_what_does_not_count_never_kills(action: Action) -> None:
    """Even with all attempts but one used up."""
    assert isinstance(judged(endpoint(), Verdict(action, "why"), row(attempts=2)), Retry)


def test_the_last_failure_buries() -> None:
    """The third failure of three, with the problem as the reason."""
    verdict = Verdict(Action.RETRY, "HTTP 422 unknown-kind", "unknown-kind")
    assert isinstance(judged(endpoint(), verdict, row(attempts=1)), Retry)
    assert judged(endpoint(), verdict, row(attempts=2), status=422) == Bury(
        reason="unknown-kind", error="HTTP 422 unknown-kind", status=422
    )


def test_retry_after_is_the_least() -> None:
    """A delay is never shorter than Retry-After, and jitter comes on top of it."""
    verdict = Verdict(Action.RETRY_THEN, "later", retry_after=7)
    assert judged(endpoint(), verdict) == Retry(delay=7.0, counted=False, error="later")
    assert judged(endpoint(jitter=1.0), verdict) == Retry(delay=7.0 + BASE, counted=False, error="later")


def test_a_fault_waits_at_least_the_shortest_backoff() -> None:
    """However the jitter falls, the row comes after those that were given back: the next probe takes another one."""
    decision = judged(endpoint(), no_answer("refused"))
    assert decision == Retry(delay=BASE, counted=False, error="refused")


def test_a_row_whose_faults_are_its_own_is_buried() -> None:
    """†: with acks of other rows between its faults they count, and the last one buries it."""
    where = endpoint()
    poison = row(7)
    assert judged(where, no_answer("reset"), poison) == Retry(delay=BASE, counted=False, error="reset")
    for attempts in (0, 1):
        judged(where, ACK)
        poison.attempts = attempts
        decision = judged(where, no_answer("reset"), poison)
        assert isinstance(decision, Retry)
        assert decision.counted
    judged(where, ACK)
    poison.attempts = 2
    assert judged(where, no_answer("reset"), poison) == Bury(reason="endpoint-fault", error="reset")


def test_a_row_behind_a_dead_endpoint_is_never_buried() -> None:
    """†: without an ack nothing counts, for as long as it takes, even at the last attempt."""
    where = endpoint(max_attempts=1)
    for _ in range(1000):
        decision = judged(where, no_answer("refused"), row(7))
        assert isinstance(decision, Retry)
        assert not decision.counted


def test_refusals_are_believed_four_times_in_a_row() -> None:
    """†: the fifth is kept, and so is every one after it until the endpoint acks something."""
    where = endpoint(max_attempts=1)
    refusal = Verdict(Action.DEAD_LETTER, "HTTP 400 malformed-request", "malformed-request")
    decisions = [judged(where, refusal, row(number), status=400) for number in range(100)]
    assert [isinstance(decision, Bury) for decision in decisions] == [True] * 4 + [False] * 96
    assert not any(isinstance(decision, Retry) and decision.counted for decision in decisions)
    judged(where, ACK)
    assert isinstance(judged(where, refusal, row(101), status=400), Bury)


def test_age_stands_still_while_the_breaker_is_open() -> None:
    """Service time is paused when sending stops, and goes on with the ack that closes the breaker."""
    where = endpoint()
    where.serve(True)
    for number in range(5):
        judged(where, no_answer("refused"), row(number))
    assert where.breaker.is_open
    assert where.service.running is False
    judged(where, ACK)
    assert where.service.running is True


def test_age_stands_still_while_nothing_is_to_be_sent() -> None:
    """In another mode a late ack closes the breaker, and time still stands still."""
    where = endpoint()
    where.serve(True)
    for number in range(5):
        judged(where, no_answer("refused"), row(number))
    where.serve(False)
    judged(where, ACK)
    assert where.service.running is False
