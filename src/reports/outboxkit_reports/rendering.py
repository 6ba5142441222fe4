"""From the four sections to one self-contained HTML page: no script, no request, every text escaped.

The page carries its own Content-Security-Policy, which allows nothing but this very style sheet (by its
hash), so that the file stays as harmless when it is saved and mailed round as it is when the web role
serves it. Rendering is pure: the same sections and the same day give the same bytes, so a repeated
FINISH_RUN stores the same document.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from outboxkit_reports import formats
from outboxkit_reports.charts import svg
from outboxkit_reports.charts.bars import Bars, bar_chart
from outboxkit_reports.charts.drawdown import drawdown_charts
from outboxkit_reports.charts.growth import MOST_LABELS, growth_chart
from outboxkit_reports.charts.heatmap import heat_map

if TYPE_CHECKING:
    import datetime as dt

    from outboxkit_reports.sections import Pair, Parts


# The widest drawings come twice, for a page and for a phone; the style sheet shows one. Shrunk, their letters
# could not be read.
_WIDTHS = (760, 360)


class Highlight(NamedTuple):
    """A card at the top of the page."""

    what: str
    figure: str
    symbol: str
    detail: str = ""


def render(*, title: str, parts: Parts, made_on: dt.date) -> str:
    """The report as one HTML document. CPU-bound, some tens of milliseconds: call it in a thread."""
    stylesheet = _stylesheet()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            parts=parts,
            made_on=made_on,
            policy=_policy(stylesheet),
            # Ours, not the user's, and a style element's text must not be escaped: its hash would not match.
            stylesheet=Markup(stylesheet),  # noqa: S704
            highlights=_highlights(parts),
            growth={width: growth_chart(parts.performance.symbols, width=width) for width in _WIDTHS},
            legend=len(parts.performance.symbols) > MOST_LABELS,
            bars={width: bar_chart(_bars(parts), width=width) for width in _WIDTHS},
            drawdowns=drawdown_charts(parts.risk.symbols),
            heat_map=heat_map(parts.correlation),
            pairs=_by_correlation(parts.correlation.pairs),
            minus=formats.MINUS,
            series_class=svg.series_class,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("outboxkit_reports"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "percent": formats.percent,
        "coefficient": formats.coefficient,
        "amount": formats.amount,
        "full_date": formats.full_date,
    }
    return environment


@cache
def _stylesheet() -> str:
    environment = _environment()
    assert environment.loader is not None  # noqa: S101 - for the type checker; it is set above
    source, _, _ = environment.loader.get_source(environment, "report.css")
    return source


def _policy(stylesheet: str) -> str:
    digest = base64.b64encode(hashlib.sha256(stylesheet.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def _bars(parts: Parts) -> list[Bars]:
    both = zip(parts.performance.symbols, parts.risk.symbols, strict=True)
    return [Bars(growth.symbol, growth.cagr, risk.volatility) for growth, risk in both]


def _by_correlation(pairs: tuple[Pair, ...]) -> list[Pair]:
    """Closest first, unknown last."""
    return sorted(pairs, key=lambda pair: (pair.correlation is None, -(pair.correlation or 0.0)))


def _highlights(parts: Parts) -> list[Highlight]:
    best = max(parts.performance.symbols, key=lambda one: one.total_return)
    cards = [
        Highlight(
            "Highest total return",
            formats.percent(best.total_return, signed=True),
            best.symbol,
            f"100 became {formats.amount(best.growth[-1][1])}",
        )
    ]
    return cards + _growth_card(parts) + _fall_card(parts) + _volatility_card(parts)


def _growth_card(parts: Parts) -> list[Highlight]:
    known = [(one.cagr, one.symbol) for one in parts.performance.symbols if one.cagr is not None]
    if not known:
        return []
    cagr, symbol = max(known)
    return [Highlight("Fastest growth", formats.percent(cagr, signed=True), symbol, "a year, compounded")]


def _fall_card(parts: Parts) -> list[Highlight]:
    known = [(one.maximum_drawdown, one.symbol) for one in parts.risk.symbols if one.maximum_drawdown is not None]
    if not known:
        return []
    fall, symbol = min(known, key=lambda one: one[0].depth)
    period = f"{formats.month(fall.peak)} to {formats.month(fall.trough)}"
    return [Highlight("Deepest fall", formats.percent(fall.depth), symbol, period)]


def _volatility_card(parts: Parts) -> list[Highlight]:
    known = [(one.volatility, one.symbol) for one in parts.risk.symbols if one.volatility is not None]
    if not known:
        return []
    volatility, symbol = min(known)
    return [Highlight("Calmest", formats.percent(volatility), symbol, "volatility a year")]
