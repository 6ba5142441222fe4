"""One CSV field at a time: what a date, a symbol and a price may look like.

Each function takes the field as text and returns the value, or raises `ValueError` whose message is meant
for the person who uploaded the file: it quotes the field and says what is wanted.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from typing import Final

MAX_SYMBOL_LENGTH: Final = 32
MAX_PRICE: Final = 1_000_000_000.0
MIN_PRICE: Final = 0.000_001
FIRST_YEAR: Final = 1800
LAST_YEAR: Final = 2199

_ISO = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_NAMED = re.compile(r"([A-Za-z]{3,9}) +([0-9]{1,2}),? +([0-9]{4})")
_PRICE = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_NEGATIVE = re.compile(r"-[0-9.]+")
_EXPONENT = re.compile(r"[0-9.]+[eE][+-]?[0-9]+")
# English whatever the locale of the process: strptime("%b") would follow LC_TIME.
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip


def quoted(text: str) -> str:
    """The field as it can be shown in a message: at most 40 characters, control characters escaped."""
    shown = text if len(text) <= 40 else text[:40] + "…"
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown) + '"'


def parse_date(text: str) -> dt.date:
    """A day written as `2000-01-31` or `Jan 31 2000`; full month names and a comma after the day are fine."""
    year, month, day = _date_parts(text)
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise ValueError(f"{quoted(text)} lies outside the years {FIRST_YEAR} to {LAST_YEAR}")
    try:
        return dt.date(year, month, day)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not a day of the calendar") from None


def _date_parts(text: str) -> tuple[int, int, int]:
    if iso := _ISO.fullmatch(text):
        return int(iso[1]), int(iso[2]), int(iso[3])
    if named := _NAMED.fullmatch(text):
        month = _month_number(named[1].lower())
        if month is not None:
            return int(named[3]), month, int(named[2])
    raise ValueError(f"{quoted(text)} is not a date; write it as 2000-01-31 or Jan 31 2000")


def _month_number(name: str) -> int | None:
    for number, month in enumerate(_MONTHS, start=1):
        if name in (month, month[:3]):
            return number
    return None


def parse_symbol(text: str) -> str:
    """A name of 1 to 32 printable characters, normalised to NFC so that equal-looking names are equal.

    Any printable text is a symbol, `<script>` too: escaping is the renderer's duty, not the parser's.
    """
    symbol = unicodedata.normalize("NFC", text)
    if not symbol:
        raise ValueError("the symbol is empty")
    if len(symbol) > MAX_SYMBOL_LENGTH:
        raise ValueError(f"{quoted(text)} is {len(symbol)} characters long; at most {MAX_SYMBOL_LENGTH} are allowed")
    if not symbol.isprintable():
        raise ValueError(f"{quoted(text)} holds characters that cannot be printed")
    return symbol


def parse_price(text: str) -> float:
    """A plain positive decimal such as `39.81`, between 0.000001 and 1,000,000,000."""
    if not _PRICE.fullmatch(text):
        raise ValueError(_not_a_price(text))
    price = float(text)
    if price == 0:
        raise ValueError(f"{quoted(text)} is not a positive price")
    if not MIN_PRICE <= price <= MAX_PRICE:
        raise ValueError(f"{quoted(text)} lies outside {MIN_PRICE:f} to {MAX_PRICE:,.0f}")
    return price


def _not_a_price(text: str) -> str:
    if not text:
        return "the price is empty"
    if _NEGATIVE.fullmatch(text):
        return f"{quoted(text)} is not a positive price"
    if _EXPONENT.fullmatch(text):
        return f"{quoted(text)} uses an exponent; write the price out, like 39.81"
    return f"{quoted(text)} is not a price; write a plain decimal number, like 39.81"
