"""Medians, percentiles and ratios of what was measured."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, linear between the two nearest ranks.

    Hyndman and Fan's definition 7, which numpy uses too. Raises ValueError when there are no values.
    """
    if not values:
        raise ValueError("no values, so no percentile")
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share}; wanted 0 to 1")
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    below = min(int(rank), len(ordered) - 2) if len(ordered) > 1 else 0
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * (rank - below)


def ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    """The median of the rounds' own ratios: what slows one round slows both of its sides, and cancels out.

    Raises ValueError when the two have not the same number of rounds, because they were not measured together then.
    """
    return median(one / other for one, other in zip(ours, floor, strict=True))


def per_second(count: int, seconds: float) -> float:
    """So many of them in so many seconds, as a rate."""
    return count / seconds


def shares(count: int, parts: int) -> list[int]:
    """`count` divided into `parts` as evenly as whole numbers allow; their sum is `count`."""
    edges = [count * part // parts for part in range(parts + 1)]
    return [end - start for start, end in pairwise(edges)]
