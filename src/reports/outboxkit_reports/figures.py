"""The figures of a report, each with its formula and where it comes from.

Pure functions on plain sequences. Returns are fractions (0.25 is 25 %), drawdowns are fractions at or below
zero, and a figure that the data cannot give is None rather than a number that looks like one.

Monthly figures use the *last* price of each calendar month, and only returns between *neighbouring* months:
a step over a month without prices is not a monthly return and is left out.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DAYS_IN_YEAR: Final = 365.25
MONTHS_IN_YEAR: Final = 12
FEWEST_COMMON_MONTHS: Final = 3
# Log returns whose standard deviation is below this differ by floating-point rounding only: prices growing
# by exactly 10 % a month have returns that differ in the 16th digit, and correlating that noise would give
# any number at all.
ROUNDING: Final = 1e-12


class Drawdown(msgspec.Struct, frozen=True):
    """The deepest fall, from the `peak` day to the `trough` day.

    `depth` is below 0; `recovered` is the first day back at the peak's price, None if it has not come yet.
    """

    depth: float
    peak: dt.date
    trough: dt.date
    recovered: dt.date | None


def total_return(prices: Sequence[float]) -> float:
    """Simple return over the whole series: P_last / P_first - 1.

    Prices only: dividends count if the prices are adjusted for them. Source: Bacon, Practical Portfolio
    Performance Measurement and Attribution, 2nd ed. (Wiley, 2008), ch. 3, simple rate of return.
    """
    return prices[-1] / prices[0] - 1


def cagr(prices: Sequence[float], first: dt.date, last: dt.date) -> float | None:
    """Compound annual growth rate: (P_last / P_first)^(365.25 / days) - 1.

    None over less than 365 days: a short period must not be blown up to a year (CFA Institute, Global
    Investment Performance Standards, 2020: returns for periods of less than one year must not be
    annualized).
    """
    days = (last - first).days
    if days < 365:
        return None
    return math.pow(prices[-1] / prices[0], DAYS_IN_YEAR / days) - 1


def month_number(day: dt.date) -> int:
    """Months counted without gaps: December 2003 and January 2004 are neighbours."""
    return day.year * MONTHS_IN_YEAR + day.month - 1


def monthly_log_returns(dates: Sequence[dt.date], prices: Sequence[float]) -> dict[int, float]:
    """ln(P_m / P_(m-1)) for every month m whose preceding calendar month has a price too.

    Keyed by `month_number`. P_m is the last price in month m. Dates must be ascending. Source: Hull,
    Options, Futures, and Other Derivatives, 9th ed. (Pearson, 2015), §15.4, u_i = ln(S_i / S_(i-1)).
    """
    closing = {month_number(date): price for date, price in zip(dates, prices, strict=True)}
    return {month: math.log(price / closing[month - 1]) for month, price in closing.items() if month - 1 in closing}


def simple_return(log_return: float) -> float:
    """The simple return that a log return stands for: e^r - 1."""
    return math.expm1(log_return)


def annualised_volatility(returns: Sequence[float]) -> float | None:
    """Sample standard deviation of monthly log returns times √12; None for fewer than two returns.

    s = √(Σ(u_i - mean)² / (n - 1)). Source: Hull, as above, §15.4: volatility s / √τ with τ = 1/12 of a year.
    """
    if len(returns) < 2:
        return None
    return statistics.stdev(returns) * math.sqrt(MONTHS_IN_YEAR)


def drawdowns(prices: Sequence[float]) -> list[float]:
    """For every price its distance below the highest price so far: P_t / max(P_0 … P_t) - 1."""
    highest = prices[0]
    below = []
    for price in prices:
        highest = max(highest, price)
        below.append(price / highest - 1)
    return below


def maximum_drawdown(dates: Sequence[dt.date], prices: Sequence[float]) -> Drawdown | None:
    """The lowest of `drawdowns` with its days, the earliest of equals; None for a series that never falls.

    The peak is the last day at the highest price before the trough. Source: Magdon-Ismail and Atiya, "Maximum
    Drawdown", Risk 17(10), 2004, pp. 99-102.
    """
    below = drawdowns(prices)
    depth = min(below)
    if depth == 0:
        return None
    trough = below.index(depth)
    peak = max(i for i in range(trough) if below[i] == 0)
    recovered = next((i for i in range(trough, len(prices)) if prices[i] >= prices[peak]), None)
    return Drawdown(depth, dates[peak], dates[trough], None if recovered is None else dates[recovered])


def correlation(one: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    """Pearson's r of two symbols' monthly log returns over the months both have: cov(x, y) / (s_x · s_y).

    None with fewer than three months in common, or when either does not vary in them. Source: Pearson,
    "Notes on regression and inheritance in the case of two parents", Proc. R. Soc. Lond. 58, 1895, pp.
    240-242.
    """
    months = sorted(one.keys() & other.keys())
    if len(months) < FEWEST_COMMON_MONTHS:
        return None
    xs, ys = [one[month] for month in months], [other[month] for month in months]
    if min(statistics.stdev(xs), statistics.stdev(ys)) < ROUNDING:
        return None
    return max(-1.0, min(1.0, statistics.correlation(xs, ys)))
