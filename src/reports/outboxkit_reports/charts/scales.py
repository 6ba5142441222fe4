"""From values and days to places on an axis, and the round numbers at which the axis is labelled."""

from __future__ import annotations

import datetime as dt
import math
from typing import Final, NamedTuple

from outboxkit_reports import formats

_ROUNDING: Final = 1e-12
_MONTH_STEPS: Final = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200)


class Tick(NamedTuple):
    """A place on an axis and what stands there."""

    at: float
    label: str


class Scale(NamedTuple):
    """Maps [low, high] to [start, end], evenly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; what has no extent lies in the middle."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)


def linear_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from the last one up to low to the first one from high.

    A range that is nothing but the rounding of its ends counts as none, and gets an extent.
    """
    if high - low <= _ROUNDING * abs(low):
        high = low + (abs(low) or 1.0)
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999_999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [multiple * step for multiple in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20 … that span the range; over many decades only every so many powers of ten.

    A range too narrow for three of them gets evenly spaced round numbers instead.
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 4:
        stride = math.ceil((last - first) / 6)
        return [10.0**exponent for exponent in range(first, last + stride, stride)]
    steps = [factor * 10.0**exponent for exponent in range(first, last + 1) for factor in (1, 2, 5)]
    below = max(step for step in steps if step <= low * 1.000_001)
    above = min((step for step in steps if step >= high * 0.999_999), default=10.0**last)
    ticks = [step for step in steps if below <= step <= above]
    even = linear_ticks(low, high)
    return even if len(ticks) < 4 and even[0] > 0 else ticks


def date_ticks(first: dt.date, last: dt.date, *, most: int = 8) -> list[Tick]:
    """Beginnings of months or years between two days, at most so many.

    Where there are not two of them the days themselves are the ticks.
    """
    for step in _MONTH_STEPS:
        months = _month_starts(first, last, step)
        if len(months) <= most:
            break
    if len(months) < 2:
        return [Tick(day.toordinal(), formats.full_date(day)) for day in sorted({first, last})]
    return [Tick(day.toordinal(), str(day.year) if step >= 12 else formats.month(day)) for day in months]


def _month_starts(first: dt.date, last: dt.date, step: int) -> list[dt.date]:
    begin, end = first.year * 12 + first.month - 1, last.year * 12 + last.month - 1
    days = (dt.date(month // 12, month % 12 + 1, 1) for month in range(begin - begin % step, end + 1, step))
    return [day for day in days if first <= day <= last]
