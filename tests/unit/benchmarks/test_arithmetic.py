"""The benchmarks' arithmetic."""

import pytest

from benchmarks.arithmetic import per_second, percentile, ratio, shares


def test_a_percentile_lies_between_the_two_nearest_ranks() -> None:
    """Definition 7 of Hyndman and Fan, worked out by hand: rank 0.95 x 4 = 3.8 of 1, 2, 3, 4, 10."""
    values = [10, 1, 3, 2, 4]
    assert percentile(values, 0.0) == 1
    assert percentile(values, 0.5) == 3
    assert percentile(values, 0.95) == pytest.approx(4 + 0.8 * 6)
    assert percentile(values, 1.0) == 10


def test_one_value_is_every_percentile() -> None:
    """Of a single value there is nothing to interpolate."""
    assert [percentile([7.0], share) for share in (0, 0.5, 0.99, 1)] == [7, 7, 7, 7]


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_a_percentile_that_does_not_exist_is_refused(values: list[float], share: float) -> None:
    """No values have no percentile, and a share lies between 0 and 1."""
    with pytest.raises(ValueError, match=r"share|no values"):
        percentile(values, share)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """A round in which everything took ten times as long counts like any other: not the quotient of the medians."""
    assert ratio([100, 10, 300], [200, 40, 400]) == 0.5
    assert ratio([1, 2], [2, 2]) == 0.75


def test_a_ratio_needs_rounds_that_were_measured_together() -> None:
    """Two rounds beside three cannot be paired."""
    with pytest.raises(ValueError, match=r"shorter|longer"):
        ratio([1, 2], [1, 2, 3])


def test_a_rate_is_so_many_a_second() -> None:
    """Half a second for ten is twenty a second."""
    assert per_second(10, 0.5) == 20


@pytest.mark.parametrize(("count", "parts"), [(100, 16), (16, 16), (3, 16), (1000, 1), (0, 4)])
def test_shares_are_even_and_lose_nothing(count: int, parts: int) -> None:
    """No share is more than one larger than another, and together they are all."""
    found = shares(count, parts)
    assert len(found) == parts
    assert sum(found) == count
    assert max(found) - min(found) <= 1
