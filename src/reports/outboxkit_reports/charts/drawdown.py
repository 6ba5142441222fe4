"""One small area chart a symbol: how far it stood below its highest price so far. All share their axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outboxkit_reports import formats
from outboxkit_reports.charts import scales, svg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from markupsafe import Markup

    from outboxkit_reports.sections import SymbolRisk

_WIDTH: Final = 360
_HEIGHT: Final = 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 18, 12, 26


def drawdown_charts(symbols: Sequence[SymbolRisk]) -> list[Markup]:
    """A panel for each symbol, in order, drawn to one scale so that depths can be compared across panels."""
    days = [day for one in symbols for day, _ in one.drawdowns]
    deepest = min(depth for one in symbols for _, depth in one.drawdowns)
    depths = scales.linear_ticks(min(deepest, -0.01), 0, most=4)
    across = scales.Scale(min(days).toordinal(), max(days).toordinal(), _LEFT, _WIDTH - _RIGHT)
    up = scales.Scale(depths[0], 0, _HEIGHT - _BOTTOM, _TOP)
    ticks = scales.date_ticks(min(days), max(days), most=4)
    return [_panel(number, one, across, up, depths, ticks) for number, one in enumerate(symbols)]


def _panel(
    number: int,
    one: SymbolRisk,
    across: scales.Scale,
    up: scales.Scale,
    depths: Sequence[float],
    ticks: Sequence[scales.Tick],
) -> Markup:
    root = svg.canvas(_WIDTH, _HEIGHT, name="drawdown", label=_label(one))
    for depth in depths:
        svg.line(root, _LEFT, up(depth), _WIDTH - _RIGHT, up(depth), "base" if depth == 0 else "grid")
        svg.text(root, _LEFT - 7, up(depth) + 4, formats.percent(depth, digits=_digits(depths)), "tick end")
    for tick in ticks:
        svg.text(root, across(tick.at), _HEIGHT - 8, tick.label, "tick middle")
    _area(svg.group(root, f"c{number % svg.COLOURS}"), one, across, up)
    return svg.markup(root)


def _digits(depths: Sequence[float]) -> int:
    return 0 if depths[1] - depths[0] >= 0.01 else 1


def _label(one: SymbolRisk) -> str:
    fall = one.maximum_drawdown
    if fall is None:
        return f"Area chart: {one.symbol} never stood below its highest price"
    depth, trough = formats.percent(fall.depth), formats.full_date(fall.trough)
    return f"Area chart: {one.symbol} below its highest price so far; deepest {depth} on {trough}"


def _area(parent: Element, one: SymbolRisk, across: scales.Scale, up: scales.Scale) -> None:
    line = [(across(day.toordinal()), up(depth)) for day, depth in one.drawdowns]
    svg.path(parent, [(line[0][0], up(0)), *line, (line[-1][0], up(0))], "area", close=True)
    svg.path(parent, line, "line thin")
