"""SVG elements, built as a tree and escaped by the serialiser: no markup is ever put together from text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

# Series beyond the eighth repeat a colour with another dash (classes c0 … c7, d0 … d2).
COLOURS: Final = 8


def series_class(number: int) -> str:
    """The classes that give the series of this number, counted from 0, its colour and dash."""
    return f"c{number % COLOURS} d{number // COLOURS % 3}"


def canvas(width: float, height: float, *, name: str, label: str) -> Element:
    """An empty drawing that scales with the page; `label` is what a screen reader says instead of it."""
    root = ElementTree.Element(
        "svg",
        {"class": f"chart {name}", "viewBox": f"0 0 {number(width)} {number(height)}", "role": "img"},
    )
    root.set("aria-label", label)
    ElementTree.SubElement(root, "title").text = label
    return root


def group(parent: Element, classes: str, *, title: str | None = None) -> Element:
    """A `g`; its title is the tooltip of everything in it."""
    node = ElementTree.SubElement(parent, "g", {"class": classes})
    if title is not None:
        ElementTree.SubElement(node, "title").text = title
    return node


def text(parent: Element, x: float, y: float, content: str, classes: str) -> Element:
    """A line of text; its anchor and weight are the style sheet's."""
    node = ElementTree.SubElement(parent, "text", {"x": number(x), "y": number(y), "class": classes})
    node.text = content
    return node


def line(parent: Element, x1: float, y1: float, x2: float, y2: float, classes: str) -> Element:
    """A straight line."""
    ends = {"x1": number(x1), "y1": number(y1), "x2": number(x2), "y2": number(y2), "class": classes}
    return ElementTree.SubElement(parent, "line", ends)


def rect(parent: Element, x: float, y: float, width: float, height: float, classes: str) -> Element:
    """A rectangle; a negative size is drawn as none."""
    size = {"width": number(max(width, 0)), "height": number(max(height, 0))}
    return ElementTree.SubElement(parent, "rect", {"x": number(x), "y": number(y), **size, "class": classes})


def path(parent: Element, points: Iterable[tuple[float, float]], classes: str, *, close: bool = False) -> Element:
    """A polyline through the points, closed to an area if asked."""
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return ElementTree.SubElement(parent, "path", {"d": f"M{steps}" + ("Z" if close else ""), "class": classes})


def markup(root: Element) -> Markup:
    """The drawing as markup that a template takes as it is."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - the serialiser has escaped it


def number(value: float) -> str:
    """A coordinate with one decimal: a tenth of a unit is finer than any screen."""
    return f"{value:.1f}".removesuffix(".0")
