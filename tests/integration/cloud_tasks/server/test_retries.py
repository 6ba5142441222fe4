"""When a failed task is tried again, on numbers alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxkit_cli.cloud_tasks.retries import RetryConfig, backoff, exhausted

CONFIGS = st.builds(
    RetryConfig,
    min_backoff=st.floats(0, 100),
    max_backoff=st.floats(100, 1e5),
    max_doublings=st.integers(0, 10**6),
)


def waits(count: int, **settings: float) -> list[float]:
    """The first waits of a queue."""
    config = RetryConfig(**settings)  # type: ignore[arg-type]
    return [backoff(config, retry) for retry in range(1, count + 1)]


def test_google_s_example() -> None:
    """10 s, 300 s and 3 doublings wait as Google's documentation says: doubling, then linear, then constant."""
    expected = [10, 20, 40, 80, 160, 240, 300, 300]
    assert waits(8, min_backoff=10, max_backoff=300, max_doublings=3) == expected


def test_without_doublings_it_grows_linearly() -> None:
    """No doubling at all: each wait is longer by the first."""
    assert waits(4, min_backoff=5, max_backoff=18, max_doublings=0) == [5, 10, 15, 18]


def test_the_defaults_reach_an_hour() -> None:
    """A new queue begins with a tenth of a second and stays at an hour."""
    found = waits(100)
    assert (found[:3], found[15], found[-1]) == ([0.1, 0.2, 0.4], pytest.approx(3276.8), 3600)


@given(CONFIGS, st.integers(1, 10**9))
def test_a_wait_never_shrinks_and_stays_within_its_bounds(config: RetryConfig, retry: int) -> None:
    """Whatever the settings and however many retries: no wait is shorter than the one before it, or out of bounds."""
    wait, following = backoff(config, retry), backoff(config, retry + 1)
    assert config.min_backoff <= wait <= following <= config.max_backoff
    assert math.isfinite(following)


@pytest.mark.parametrize(
    ("attempts", "seconds", "expected"),
    [(2, 0, False), (3, 0, False), (2, 60, False), (3, 60, True), (4, 61, True)],
)
def test_both_limits_have_to_pass(attempts: int, seconds: float, expected: bool) -> None:
    """With both limits set a task is given up only when both have passed."""
    config = RetryConfig(max_attempts=3, max_retry_duration=60)
    assert exhausted(config, attempts=attempts, since_first=seconds) is expected


def test_one_limit_alone_decides_where_the_other_is_unlimited() -> None:
    """-1 attempts and 0 seconds set no limit; the other one then decides alone."""
    attempts, duration = RetryConfig(max_attempts=2), RetryConfig(max_attempts=-1, max_retry_duration=60)
    assert exhausted(attempts, attempts=2, since_first=0)
    assert not exhausted(duration, attempts=1000, since_first=59)
    assert exhausted(duration, attempts=1, since_first=60)
    assert not exhausted(RetryConfig(max_attempts=-1), attempts=10**6, since_first=1e9)
