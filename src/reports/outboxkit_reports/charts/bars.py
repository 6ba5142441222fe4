"""Return beside risk: for each symbol a bar of its yearly growth and one of its yearly volatility."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from outboxkit_reports import formats
from outboxkit_reports.charts import scales, svg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from markupsafe import Markup

_LEFT, _RIGHT, _TOP, _BOTTOM = 100, 56, 8, 34
_BAR: Final = 15
_ROW: Final = 48


class Bars(NamedTuple):
    """One symbol's row; a figure that is not known has no bar but a dash."""

    symbol: str
    growth: float | None
    volatility: float | None


def bar_chart(rows: Sequence[Bars], *, width: int) -> Markup:
    """Horizontal pairs of bars on one axis that always includes zero."""
    known = [figure for row in rows for figure in (row.growth, row.volatility) if figure is not None]
    ticks = scales.linear_ticks(min([0.0, *known]), max([0.01, *known]), most=max(5, width // 110))
    height = _TOP + _ROW * len(rows) + _BOTTOM
    across = scales.Scale(ticks[0], ticks[-1], _LEFT, width - _RIGHT)
    label = f"Bar chart: compound annual growth and annualised volatility of {len(rows)} symbols"
    root = svg.canvas(width, height, name="bars", label=label)
    _axis(root, ticks, across, height)
    for number, row in enumerate(rows):
        _row(root, row, across, _TOP + number * _ROW)
    svg.line(root, across(0), _TOP, across(0), height - _BOTTOM, "base")
    return svg.markup(root)


def _axis(root: Element, ticks: Sequence[float], across: scales.Scale, height: float) -> None:
    digits = 0 if ticks[1] - ticks[0] >= 0.01 else 1
    for tick in ticks:
        x = across(tick)
        svg.line(root, x, _TOP, x, height - _BOTTOM, "grid")
        svg.text(root, x, height - 12, formats.percent(tick, digits=digits), "tick middle")


def _row(root: Element, row: Bars, across: scales.Scale, top: float) -> None:
    growth, volatility = formats.percent(row.growth, signed=True), formats.percent(row.volatility)
    title = f"{row.symbol}: growth {growth} a year, volatility {volatility} a year"
    bars = svg.group(root, "pair", title=title)
    svg.text(bars, 0, top + _ROW / 2 + 4.5, formats.clipped(row.symbol, 11), "name")
    _bar(bars, row.growth, growth, across, top + _ROW / 2 - _BAR - 1, "return")
    _bar(bars, row.volatility, volatility, across, top + _ROW / 2 + 1, "volatility")


def _bar(parent: Element, value: float | None, label: str, across: scales.Scale, top: float, kind: str) -> None:
    end = across(value or 0.0)
    svg.rect(parent, min(end, across(0)), top, abs(end - across(0)), _BAR, kind)
    # A loss is labelled on the far side of zero, where no bar can cover it.
    svg.text(parent, max(end, across(0)) + 6, top + _BAR - 3.5, label, "value")
