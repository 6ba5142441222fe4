"""Figures against values worked out by another route: by hand, or in 50-digit decimals without `statistics`."""

import csv
import datetime as dt
import itertools
from decimal import Decimal, localcontext
from pathlib import Path

import pytest

from outboxkit_reports import figures
from outboxkit_reports.prices import parse

STOCKS = Path(__file__).parents[3] / "examples" / "stocks.csv"


def months(*prices: float, start: int = 2000) -> tuple[list[dt.date], list[float]]:
    """Prices at the beginnings of successive months."""
    return [dt.date(start + n // 12, n % 12 + 1, 1) for n in range(len(prices))], list(prices)


def stocks() -> dict[str, list[Decimal]]:
    """The sample's prices, read without the code under test."""
    found: dict[str, list[Decimal]] = {}
    with STOCKS.open() as file:
        for row in csv.DictReader(file):
            found.setdefault(row["symbol"], []).append(Decimal(row["price"]))
    return found


def log_returns(prices: list[Decimal]) -> list[Decimal]:
    """Logarithms of neighbours' ratios; the sample has every month, in order."""
    return [later.ln() - earlier.ln() for earlier, later in itertools.pairwise(prices)]


def mean(values: list[Decimal]) -> Decimal:
    """The arithmetic mean."""
    return sum(values, Decimal()) / len(values)


def test_total_return_by_hand() -> None:
    """From 80 to 100 is a quarter more; what happens between does not count."""
    assert figures.total_return([80, 20, 100]) == 0.25


def test_cagr_by_hand() -> None:
    """Doubling in 1461 days, four years of 365.25, is the fourth root of two a year."""
    first = dt.date(2000, 1, 1)
    last = first + dt.timedelta(days=1461)
    assert figures.cagr([10, 20], first, last) == pytest.approx(2**0.25 - 1, rel=1e-15)


def test_cagr_is_not_given_for_less_than_a_year() -> None:
    """364 days are not blown up to a year; 365 are one."""
    first = dt.date(2001, 1, 1)
    assert figures.cagr([1, 2], first, first + dt.timedelta(days=364)) is None
    assert figures.cagr([1, 2], first, first + dt.timedelta(days=365)) == pytest.approx(1.0, abs=0.002)


def test_volatility_by_hand() -> None:
    """Up by ln 2, down by ln 2: mean 0, sample variance 2·(ln 2)², times twelve."""
    returns = figures.monthly_log_returns(*months(1, 2, 1))
    assert figures.annualised_volatility(list(returns.values())) == pytest.approx(0.6931471805599453 * 24**0.5)


def test_volatility_needs_two_returns() -> None:
    """One return has no sample deviation."""
    assert figures.annualised_volatility([0.1]) is None
    assert figures.annualised_volatility([]) is None


def test_the_last_price_of_a_month_counts() -> None:
    """Daily prices are taken at the month's end: 1, 9, 2 | 4 is a return of ln 2."""
    dates = [dt.date(2000, 1, 3), dt.date(2000, 1, 17), dt.date(2000, 1, 31), dt.date(2000, 2, 1)]
    returns = figures.monthly_log_returns(dates, [1, 9, 2, 4])
    assert returns == {figures.month_number(dt.date(2000, 2, 1)): pytest.approx(0.6931471805599453)}


def test_a_step_over_a_missing_month_is_no_monthly_return() -> None:
    """December to January are neighbours, January to March are not."""
    dates = [dt.date(1999, 12, 1), dt.date(2000, 1, 1), dt.date(2000, 3, 1)]
    assert list(figures.monthly_log_returns(dates, [1, 2, 4])) == [figures.month_number(dt.date(2000, 1, 1))]


def test_maximum_drawdown_by_hand() -> None:
    """100, 120, 60, 90, 130, 65, 130: twice half, so the earlier; its peak is won back in the fifth month."""
    dates, prices = months(100, 120, 60, 90, 130, 65, 130)
    expected = figures.Drawdown(-0.5, dates[1], dates[2], dates[4])
    assert figures.maximum_drawdown(dates, prices) == expected
    assert figures.drawdowns(prices) == [0, 0, -0.5, -0.25, 0, -0.5, 0]


def test_a_fall_that_lasts_has_no_recovery() -> None:
    """The peak is the last day at the highest price."""
    dates, prices = months(5, 10, 10, 4, 9)
    assert figures.maximum_drawdown(dates, prices) == figures.Drawdown(4 / 10 - 1, dates[2], dates[3], None)


def test_a_series_that_never_falls_has_no_drawdown() -> None:
    """A plateau is no fall."""
    assert figures.maximum_drawdown(*months(1, 1, 2, 2, 3)) is None


def test_correlation_by_hand() -> None:
    """X = 1, 2, 3 and y = 1, 3, 2: covariance 1/2, variances 1 and 1."""
    assert figures.correlation({1: 1, 2: 2, 3: 3}, {1: 1, 2: 3, 3: 2}) == pytest.approx(0.5)


def test_correlation_is_taken_over_common_months() -> None:
    """Months that only one of them has do not count."""
    one = {0: 9.0, 1: 1.0, 2: 2.0, 3: 4.0}
    other = {1: -1.0, 2: -2.0, 3: -4.0, 4: 7.0}
    assert figures.correlation(one, other) == -1.0
    assert figures.correlation(other, one) == -1.0


def test_two_common_months_give_no_correlation() -> None:
    """Two points always lie on a line."""
    assert figures.correlation({1: 1, 2: 2}, {1: 1, 2: 3, 3: 4}) is None


def test_steady_growth_correlates_with_nothing() -> None:
    """10 % every month leaves only rounding noise in the returns, which must not pass for movement."""
    steady = figures.monthly_log_returns(*months(*(100 * 1.1**n for n in range(12))))
    other = figures.monthly_log_returns(*months(*(100 + n % 5 for n in range(12))))
    assert len(set(steady.values())) > 1, "no rounding noise: this test shows nothing"
    assert figures.correlation(steady, other) is None
    assert figures.correlation(steady, steady) is None


@pytest.mark.parametrize("symbol", ["MSFT", "AMZN", "IBM", "GOOG", "AAPL"])
def test_figures_of_the_sample_in_decimals(symbol: str) -> None:
    """Total return, CAGR and volatility of the real prices, in 50 digits and from the textbook sums."""
    series = next(one for one in parse(STOCKS.read_bytes()) if one.symbol == symbol)
    with localcontext(prec=50):
        exact = stocks()[symbol]
        ratio = exact[-1] / exact[0]
        years = Decimal((series.dates[-1] - series.dates[0]).days) / Decimal("365.25")
        returns = log_returns(exact)
        squares = sum(((value - mean(returns)) ** 2 for value in returns), Decimal())
        volatility = (squares / (len(returns) - 1) * 12).sqrt()
        expected = (float(ratio - 1), float((ratio.ln() / years).exp() - 1), float(volatility))
    found = figures.monthly_log_returns(series.dates, series.prices)
    assert figures.total_return(series.prices) == pytest.approx(expected[0], rel=1e-12)
    assert figures.cagr(series.prices, series.dates[0], series.dates[-1]) == pytest.approx(expected[1], rel=1e-12)
    assert figures.annualised_volatility(list(found.values())) == pytest.approx(expected[2], rel=1e-12)


@pytest.mark.parametrize("symbol", ["MSFT", "AMZN", "IBM", "GOOG", "AAPL"])
def test_drawdowns_of_the_sample_by_trying_every_pair(symbol: str) -> None:
    """The deepest fall is the smallest ratio of any later price to any earlier one."""
    series = next(one for one in parse(STOCKS.read_bytes()) if one.symbol == symbol)
    exact = stocks()[symbol]
    depth, peak, trough = min(
        (later / earlier - 1, i, j) for i, earlier in enumerate(exact) for j, later in enumerate(exact) if j > i
    )
    found = figures.maximum_drawdown(series.dates, series.prices)
    assert found is not None
    assert found.depth == pytest.approx(float(depth), rel=1e-12)
    assert (found.peak, found.trough) == (series.dates[peak], series.dates[trough])


@pytest.mark.parametrize(("one", "other"), [("MSFT", "IBM"), ("AMZN", "GOOG"), ("GOOG", "AAPL")])
def test_correlations_of_the_sample_in_decimals(one: str, other: str) -> None:
    """All series end in the same month, so the last returns of the longer one are those in common."""
    series = {found.symbol: found for found in parse(STOCKS.read_bytes())}
    with localcontext(prec=50):
        xs, ys = log_returns(stocks()[one]), log_returns(stocks()[other])
        common = min(len(xs), len(ys))
        xs, ys = xs[-common:], ys[-common:]
        products = sum(((x - mean(xs)) * (y - mean(ys)) for x, y in zip(xs, ys, strict=True)), Decimal())
        x_squares = sum(((x - mean(xs)) ** 2 for x in xs), Decimal())
        y_squares = sum(((y - mean(ys)) ** 2 for y in ys), Decimal())
        expected = float(products / (x_squares * y_squares).sqrt())
    returns = [figures.monthly_log_returns(series[name].dates, series[name].prices) for name in (one, other)]
    assert figures.correlation(*returns) == pytest.approx(expected, rel=1e-12)
