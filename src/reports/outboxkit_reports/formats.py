"""Numbers and days as a person reads them.

A typographic minus, percent with one decimal, an en dash for what is not known, English months whatever the
locale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import datetime as dt

MINUS: Final = "\N{MINUS SIGN}"
UNKNOWN: Final = "\N{EN DASH}"
_UNITS: Final = ((1e12, 1e12, "T"), (1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def percent(fraction: float | None, *, signed: bool = False, digits: int = 1) -> str:
    """0.1234 as `12.3%`; from 1,000 % on without decimals, and never a minus before zero."""
    if fraction is None:
        return UNKNOWN
    value = round(100 * fraction, 0 if abs(fraction) >= 10 else digits)
    text = f"{abs(value):,.{0 if abs(fraction) >= 10 else digits}f}%"
    return _sign(value, signed=signed) + text


def coefficient(value: float | None) -> str:
    """A correlation with two decimals."""
    if value is None:
        return UNKNOWN
    rounded = round(value, 2)
    return _sign(rounded, signed=False) + f"{abs(rounded):.2f}"


def _sign(value: float, *, signed: bool) -> str:
    if value < 0:
        return MINUS
    return "+" if signed and value > 0 else ""


def amount(value: float) -> str:
    """A price or an index level: two decimals, or as many as a price below 0.1 needs to show three digits."""
    if value >= 0.1:
        return f"{value:,.2f}"
    return f"{value:.3g}" if value >= 0.0001 else f"{value:.8f}".rstrip("0")


def tick(value: float) -> str:
    """A round number at or above 0 on an axis, without trailing zeros; 10k is ten thousand, then M, B and T."""
    if value >= 1e15 or 0 < value < 1e-6:
        return f"{value:.0e}"
    divisor, unit = next(((divisor, unit) for least, divisor, unit in _UNITS if value >= least), (1.0, ""))
    return f"{value / divisor:,.6f}".rstrip("0").rstrip(".") + unit


def month(day: dt.date) -> str:
    """`Mar 2004`."""
    return f"{_MONTHS[day.month - 1]} {day.year}"


def full_date(day: dt.date) -> str:
    """`3 Mar 2004`."""
    return f"{day.day} {month(day)}"


def clipped(text: str, length: int) -> str:
    """The text, or its beginning with an ellipsis, at most `length` characters long."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
