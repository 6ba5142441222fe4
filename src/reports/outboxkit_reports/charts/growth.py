"""The line chart of growth: 100 invested on each symbol's first day, on a logarithmic axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outboxkit_reports import formats
from outboxkit_reports.charts import scales, svg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from markupsafe import Markup

    from outboxkit_reports.sections import SymbolPerformance

_HEIGHT: Final = 380
_LEFT, _TOP, _BOTTOM = 58, 14, 34
_LABEL_WIDTH: Final = 84
_LABEL_GAP: Final = 19
MOST_LABELS: Final = 8


def growth_chart(symbols: Sequence[SymbolPerformance], *, width: int) -> Markup:
    """One line a symbol, named at its end; with more than `MOST_LABELS` the page has a legend instead."""
    first = min(one.growth[0][0] for one in symbols)
    last = max(one.growth[-1][0] for one in symbols)
    right = width - (_LABEL_WIDTH if len(symbols) <= MOST_LABELS else 12)
    across = scales.Scale(first.toordinal(), last.toordinal(), _LEFT, right)
    values = [value for one in symbols for _, value in one.growth]
    ticks = scales.log_ticks(min(values), max(values))
    up = scales.Scale(ticks[0], ticks[-1], _HEIGHT - _BOTTOM, _TOP, logarithmic=True)

    period = f"{formats.month(first)} to {formats.month(last)}"
    label = f"Line chart: growth of 100 in {len(symbols)} symbols, {period}"
    root = svg.canvas(width, _HEIGHT, name="growth", label=label)
    _axes(root, across, up, ticks, scales.date_ticks(first, last, most=width // 90))
    for number, one in enumerate(symbols):
        title = f"{one.symbol}: 100 became {formats.amount(one.growth[-1][1])}"
        lines = svg.group(root, svg.series_class(number), title=title)
        svg.path(lines, [(across(day.toordinal()), up(value)) for day, value in one.growth], "line")
    if len(symbols) <= MOST_LABELS:
        _names(root, symbols, across, up)
    return svg.markup(root)


def _axes(
    root: Element,
    across: scales.Scale,
    up: scales.Scale,
    values: Sequence[float],
    days: Sequence[scales.Tick],
) -> None:
    for value in values:
        # The line at 100 is where everybody started: above it a gain, below it a loss.
        svg.line(root, _LEFT, up(value), across.end, up(value), "base" if value == 100 else "grid")
        svg.text(root, _LEFT - 8, up(value) + 4, formats.tick(value), "tick end")
    for tick in days:
        x = across(tick.at)
        svg.line(root, x, _HEIGHT - _BOTTOM, x, _HEIGHT - _BOTTOM + 5, "mark")
        svg.text(root, x, _HEIGHT - _BOTTOM + 22, tick.label, "tick middle")


def _names(root: Element, symbols: Sequence[SymbolPerformance], across: scales.Scale, up: scales.Scale) -> None:
    ends = [one.growth[-1] for one in symbols]
    heights = spread([up(value) for _, value in ends], gap=_LABEL_GAP, low=_TOP + 4, high=_HEIGHT - _BOTTOM)
    for number, (one, (day, value), height) in enumerate(zip(symbols, ends, heights, strict=True)):
        _name(root, number, one.symbol, (across(day.toordinal()), up(value)), height, across.end)


def _name(root: Element, number: int, symbol: str, end: tuple[float, float], height: float, right: float) -> None:
    name = svg.group(root, svg.series_class(number), title=symbol)
    svg.line(name, end[0] + 2, end[1], right + 10, height, "leader")
    svg.text(name, right + 14, height + 4.5, formats.clipped(symbol, 9), "name")


def spread(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """The places moved apart to at least `gap`, in the same order and between low and high.

    If they do not all fit, the span grows beyond low.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    floor = low
    for i in order:
        moved[i] = max(moved[i], floor)
        floor = moved[i] + gap
    ceiling = high
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved
