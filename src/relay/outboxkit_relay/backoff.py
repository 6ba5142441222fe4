"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

# 2^60 s is beyond any cap; past that a float's exponent would overflow one day.
LARGEST_EXPONENT: Final = 60


class Backoff:
    """Exponential backoff with full jitter: a random time between nothing and min(longest, base · 2^failures) seconds.

    With base 1 and longest 600, `failures` having gone before:

        failures     0    1    2    3    ...    9      10 and more
        at most      1    2    4    8    ...    512    600 s

    Twenty delays in a row take half of 1 + 2 + … + 512 + 10 · 600 s on average: 58 minutes. Full jitter spreads what failed
    together over the whole interval, which clears a crowd fastest; its price is that a single retry may come at once
    (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    def __init__(
        self, *, base: float, longest: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        """`base` and `longest` in seconds; `uniform` draws between two numbers."""
        self._base = base
        self._longest = longest
        self._uniform = uniform

    def ceiling(self, failures: int) -> float:
        """The longest that `delay` can be, in seconds."""
        exponent = min(max(failures, 0), LARGEST_EXPONENT)
        return min(self._longest, self._base * 2.0**exponent)

    def delay(self, failures: int, *, at_least: float = 0.0) -> float:
        """Seconds to wait after so many earlier failures; the jitter comes on top of `at_least`.

        Retry-After goes in as `at_least`: what was told the same moment then does not come back in the same moment.
        """
        return at_least + self._uniform(0.0, self.ceiling(failures))
