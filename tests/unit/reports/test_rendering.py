import base64
import datetime as dt
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from outboxkit_reports import formats
from outboxkit_reports.prices import parse
from outboxkit_reports.rendering import render
from outboxkit_reports.sections import SECTIONS, Parts

STOCKS = Path(__file__).parents[3] / "examples" / "stocks.csv"
VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = ["<script>alert(1)</script>", '"><img src=x onerror=a()>', "a'b&amp;\"c", "{{ 7*7 }}"]


class Page(HTMLParser):
    """A parsed page: its elements in order, its text, and whether every element is closed."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that must be closed again, unless it is void."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element closed at once, as the SVG serialiser writes them."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Only the innermost open element may be closed."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Gather the text."""
        self.text += data


def page(data: bytes, title: str = "A title") -> tuple[str, Page]:
    """A rendered report, as text and parsed."""
    series = parse(data)
    parts = Parts(**{name: make(series) for name, make in SECTIONS.items()})  # type: ignore[arg-type] # by name
    document = render(title=title, parts=parts, made_on=dt.date(2026, 1, 5))
    return document, Page(document)


def prices(*symbols: str, months: int = 14) -> bytes:
    """A small file with these symbols, each with its own ups and downs."""
    rows = [
        f'{2000 + n // 12}-{n % 12 + 1:02}-01,"{symbol.replace(chr(34), chr(34) * 2)}",{100 + (n * (place + 3)) % 7}'
        for place, symbol in enumerate(symbols)
        for n in range(months)
    ]
    return "\n".join(["date,symbol,price", *rows]).encode()


def test_shows_the_figures_of_the_sample() -> None:
    """The numbers on the page are those of the real prices, as a person writes them."""
    _, found = page(STOCKS.read_bytes())
    for figure in ["+759.8%", "\N{MINUS SIGN}91.3%", "+23.6%", "54.7%", "1 Sep 2001", "not yet", "0.56"]:
        assert figure in found.text


def test_is_well_formed() -> None:
    """Every element is closed in order, and no id is given twice."""
    _, found = page(STOCKS.read_bytes())
    assert found.open == []
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("count", [1, 2, 8, 9, 24])
def test_holds_neither_script_nor_reference(count: int) -> None:
    """One self-contained file: no script, no handler, no style attribute, nothing fetched from anywhere."""
    document, found = page(prices(*(f"S{n}" for n in range(count))))
    tags = {tag for tag, _ in found.elements}
    assert tags.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "image", "use", "foreignobject"})
    for _, attributes in found.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert attributes.get("href") in (None, "data:,")
        assert "src" not in attributes
    assert "url(" not in document
    assert "@import" not in document
    assert "://" not in document


def test_the_policy_allows_its_own_style_sheet_and_nothing_else() -> None:
    """The hash in the page's Content-Security-Policy is that of the very text between its style tags."""
    document, found = page(STOCKS.read_bytes())
    (policy,) = [a["content"] for t, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", document, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("evil", EVIL)
def test_symbols_and_titles_come_out_as_text(evil: str) -> None:
    """Markup in a symbol or a title is shown as written, in tables, drawings and attributes alike."""
    plain = page(prices("AAA", "BBB"), title="A title")[1]
    document, found = page(prices(evil, "BBB"), title=evil)
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    assert [set(attributes) for _, attributes in found.elements] == [set(a) for _, a in plain.elements]
    assert found.text.count(evil) >= 6
    assert any(evil in (attributes.get("aria-label") or "") for _, attributes in found.elements)
    assert "<script" not in document


def test_every_drawing_says_what_it_shows() -> None:
    """A screen reader is told what a chart is, and told nothing of the swatches."""
    _, found = page(STOCKS.read_bytes())
    drawings = [attributes for tag, attributes in found.elements if tag == "svg"]
    charts = [attributes for attributes in drawings if attributes.get("role") == "img"]
    assert len(charts) == 2 + 2 + 5 + 1
    assert all(attributes["aria-label"] for attributes in charts)
    assert all(attributes.get("aria-hidden") == "true" for attributes in drawings if attributes not in charts)


def test_one_symbol_has_no_correlation_section() -> None:
    """With nothing to compare there is no heat map."""
    _, found = page(prices("ONLY"))
    assert "Who moves with whom" not in found.text


def test_a_series_of_two_days_is_drawn() -> None:
    """What is not known is a dash, never nan or None."""
    document, found = page(b"date,symbol,price\n2000-01-03,A,5\n2000-01-04,A,5\n")
    assert not re.search(r"\b(nan|inf|None)\b", document)
    assert formats.UNKNOWN in found.text


def test_prices_at_their_limits_are_drawn() -> None:
    """From the smallest to the largest price nothing overflows."""
    document, _ = page(b"date,symbol,price\n1800-01-01,A,0.000001\n2199-12-31,A,1000000000\n2000-01-01,A,1\n")
    assert not re.search(r"\b(nan|inf|None)\b", document)


def test_rendering_is_repeatable() -> None:
    """A FINISH_RUN that runs twice stores the same bytes twice."""
    assert page(STOCKS.read_bytes())[0] == page(STOCKS.read_bytes())[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "12.3%"),
        (-0.1234, "\N{MINUS SIGN}12.3%"),
        (-0.0001, "0.0%"),
        (12.345, "1,234%"),
        (None, "\N{EN DASH}"),
    ],
)
def test_percent(value: float | None, text: str) -> None:
    """A typographic minus, one decimal, none from 1,000 % on, and no minus zero."""
    assert formats.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.05, "0.05"), (500, "500"), (1000, "1,000"), (20_000, "20k"), (5e6, "5M")]
)
def test_tick(value: float, text: str) -> None:
    """Round numbers without trailing zeros."""
    assert formats.tick(value) == text
