"""The correlation matrix as coloured cells, each with its number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outboxkit_reports import formats
from outboxkit_reports.charts import svg

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from markupsafe import Markup

    from outboxkit_reports.sections import Correlation

_CELL_WIDTH: Final = 74
_CELL_HEIGHT: Final = 44
_LEFT, _TOP = 96, 28
# From here on a cell is so dark that its number is written in the page's background colour.
_STRONG: Final = 0.6


def heat_map(section: Correlation) -> Markup:
    """Blue where two symbols move together, orange where they move apart, the deeper the closer to 1."""
    count = len(section.symbols)
    label = f"Heat map: correlation of monthly returns between {count} symbols"
    root = svg.canvas(_LEFT + count * _CELL_WIDTH, _TOP + count * _CELL_HEIGHT, name="heat", label=label)
    root.set("class", f"chart heat n{min(count, 12)}")
    for i, symbol in enumerate(section.symbols):
        name = svg.group(root, "names", title=symbol)
        svg.text(name, _LEFT + (i + 0.5) * _CELL_WIDTH, _TOP - 10, formats.clipped(symbol, 8), "name middle")
        svg.text(name, _LEFT - 10, _TOP + (i + 0.5) * _CELL_HEIGHT + 5, formats.clipped(symbol, 9), "name end")
    for i, row in enumerate(section.matrix):
        for j, value in enumerate(row):
            _cell(
                root,
                i,
                j,
                value,
                f"{section.symbols[i]} and {section.symbols[j]}: {formats.coefficient(value)}",
            )
    return svg.markup(root)


def _cell(root: Element, row: int, column: int, value: float | None, title: str) -> None:
    x, y = _LEFT + column * _CELL_WIDTH, _TOP + row * _CELL_HEIGHT
    strength = abs(value or 0.0)
    cell = svg.group(root, "strong" if strength >= _STRONG else "weak", title=title)
    kind = "unknown" if value is None else "apart" if value < 0 else "together"
    box = svg.rect(cell, x + 1, y + 1, _CELL_WIDTH - 2, _CELL_HEIGHT - 2, f"cell {kind}")
    box.set("fill-opacity", f"{strength:.2f}" if value is not None else "1")
    svg.text(cell, x + _CELL_WIDTH / 2, y + _CELL_HEIGHT / 2 + 5, formats.coefficient(value), "value middle")
