"""The four sections of a report, each computed from the series alone.

A section is a plain Struct that survives JSON: `to_json` and `from_json` are what the job stores and the
page reads. `SECTIONS` names them in the order in which the page shows them; each is computed by its own
job.
"""

from __future__ import annotations

import datetime as dt
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from outboxkit_reports import figures
from outboxkit_reports.figures import Drawdown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from outboxkit_reports.prices import Series

# A line of 300 points fills the width of a page; more only makes the document heavier.
CHART_POINTS: Final = 300

Point: TypeAlias = tuple[dt.date, float]


class SymbolSummary(msgspec.Struct, frozen=True):
    """What the file holds for one symbol."""

    symbol: str
    first: dt.date
    last: dt.date
    rows: int
    first_price: float
    last_price: float
    lowest: float
    highest: float


class Summary(msgspec.Struct, frozen=True):
    """What the file holds."""

    first: dt.date
    last: dt.date
    rows: int
    symbols: tuple[SymbolSummary, ...]


class SymbolPerformance(msgspec.Struct, frozen=True):
    """What an investment in one symbol became; `growth` starts at 100 on the symbol's own first day."""

    symbol: str
    total_return: float
    cagr: float | None
    best_month: float | None
    worst_month: float | None
    growth: tuple[Point, ...]


class Performance(msgspec.Struct, frozen=True):
    """Returns of every symbol."""

    symbols: tuple[SymbolPerformance, ...]


class SymbolRisk(msgspec.Struct, frozen=True):
    """How much one symbol swung and how far it fell."""

    symbol: str
    months: int
    volatility: float | None
    maximum_drawdown: Drawdown | None
    drawdowns: tuple[Point, ...]


class Risk(msgspec.Struct, frozen=True):
    """Volatility and drawdowns of every symbol."""

    symbols: tuple[SymbolRisk, ...]


class Pair(msgspec.Struct, frozen=True):
    """How two symbols moved together in the `months` for which both have a return."""

    one: str
    other: str
    months: int
    correlation: float | None


class Correlation(msgspec.Struct, frozen=True):
    """The symmetric matrix in the order of `symbols`, and each pair once."""

    symbols: tuple[str, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    pairs: tuple[Pair, ...]


Section: TypeAlias = Summary | Performance | Risk | Correlation


def summary(series: Sequence[Series]) -> Summary:
    """Period, rows and price range."""
    symbols = tuple(
        SymbolSummary(
            symbol=one.symbol,
            first=one.dates[0],
            last=one.dates[-1],
            rows=len(one.dates),
            first_price=one.prices[0],
            last_price=one.prices[-1],
            lowest=min(one.prices),
            highest=max(one.prices),
        )
        for one in series
    )
    return Summary(
        first=min(one.first for one in symbols),
        last=max(one.last for one in symbols),
        rows=sum(one.rows for one in symbols),
        symbols=symbols,
    )


def performance(series: Sequence[Series]) -> Performance:
    """Total return, CAGR, best and worst month, growth of 100."""
    return Performance(tuple(_symbol_performance(one) for one in series))


def _symbol_performance(series: Series) -> SymbolPerformance:
    months = [
        figures.simple_return(value) for value in figures.monthly_log_returns(series.dates, series.prices).values()
    ]
    growth = [100 * price / series.prices[0] for price in series.prices]
    return SymbolPerformance(
        symbol=series.symbol,
        total_return=figures.total_return(series.prices),
        cagr=figures.cagr(series.prices, series.dates[0], series.dates[-1]),
        best_month=max(months, default=None),
        worst_month=min(months, default=None),
        growth=thinned(series.dates, growth),
    )


def risk(series: Sequence[Series]) -> Risk:
    """Volatility, deepest fall and the distance below the peak over time."""
    return Risk(tuple(_symbol_risk(one) for one in series))


def _symbol_risk(series: Series) -> SymbolRisk:
    returns = figures.monthly_log_returns(series.dates, series.prices)
    return SymbolRisk(
        symbol=series.symbol,
        months=len(returns),
        volatility=figures.annualised_volatility(list(returns.values())),
        maximum_drawdown=figures.maximum_drawdown(series.dates, series.prices),
        drawdowns=thinned(series.dates, figures.drawdowns(series.prices)),
    )


def correlation(series: Sequence[Series]) -> Correlation:
    """Pearson's correlation of monthly log returns for each pair of symbols, and of each with itself."""
    returns = [figures.monthly_log_returns(one.dates, one.prices) for one in series]
    matrix = tuple(tuple(figures.correlation(one, other) for other in returns) for one in returns)
    pairs = tuple(
        Pair(series[i].symbol, series[j].symbol, len(returns[i].keys() & returns[j].keys()), matrix[i][j])
        for i, j in combinations(range(len(series)), 2)
    )
    return Correlation(tuple(one.symbol for one in series), matrix, pairs)


SECTIONS: Final[Mapping[str, Callable[[Sequence[Series]], Section]]] = {
    "summary": summary,
    "performance": performance,
    "risk": risk,
    "correlation": correlation,
}


class Parts(msgspec.Struct, frozen=True):
    """All four sections: what the page is made of. Its field names are the section names."""

    summary: Summary
    performance: Performance
    risk: Risk
    correlation: Correlation


def to_json(section: Section) -> dict[str, Any]:
    """A section as JSON-able builtins."""
    built: dict[str, Any] = msgspec.to_builtins(section)
    return built


def from_json(parts: Mapping[str, Any]) -> Parts:
    """All sections from what `to_json` gave, by name; `msgspec.ValidationError` if one does not fit."""
    return msgspec.convert(dict(parts), Parts)


def thinned(dates: Sequence[dt.date], values: Sequence[float]) -> tuple[Point, ...]:
    """The points of a chart line, at most about `CHART_POINTS` of them.

    Of each stretch its lowest and its highest point are kept, and both ends of the line. Peaks and troughs
    therefore stay at their exact height and day, however many prices there are.
    """
    if len(dates) <= CHART_POINTS:
        return tuple(zip(dates, values, strict=True))
    stretches = CHART_POINTS // 2
    kept = {0, len(dates) - 1}
    for number in range(stretches):
        stretch = range(number * len(dates) // stretches, (number + 1) * len(dates) // stretches)
        kept |= {min(stretch, key=values.__getitem__), max(stretch, key=values.__getitem__)}
    return tuple((dates[i], values[i]) for i in sorted(kept))
