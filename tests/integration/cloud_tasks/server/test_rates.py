"""The token bucket, on numbers alone."""

import pytest

from outboxkit_cli.cloud_tasks.rates import RateLimits, TokenBucket


def test_a_clock_that_steps_back_takes_nothing_away() -> None:
    """And gives nothing for the time that it shows twice."""
    bucket = TokenBucket(rate=1, size=2, now=100)
    assert (bucket.take(100), bucket.take(90)) == (True, True)
    assert not bucket.take(90.5)
    assert bucket.take(91)


@pytest.mark.parametrize("rate", [500, 300, 7, 3, 0.7])
def test_what_is_said_to_be_ready_is_ready(rate: float) -> None:
    """At the time that `ready_at` names there is a token, however the seconds are rounded."""
    now = 1_764_000_000.0
    bucket = TokenBucket(rate=rate, size=1, now=now)
    for _ in range(1000):
        assert bucket.take(now)
        now = bucket.ready_at(now)


def test_google_s_bursts() -> None:
    """The bursts that Google is known to give."""
    assert [RateLimits.burst_for(rate) for rate in (500, 1)] == [100, 10]
