"""Reading an uploaded price file into typed series, or saying exactly what is wrong with it.

The file is CSV in UTF-8 (a byte order mark and CRLF are fine) with the columns `date`, `symbol` and `price`
in any order and case. `parse` either returns every row or raises `InvalidPrices`; nothing is guessed,
skipped or repaired, except that rows without any content are passed over. It is pure: no clock, no locale,
no I/O.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from outboxkit_contracts.problems import Flaw
from outboxkit_reports.fields import parse_date, parse_price, parse_symbol, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_ROWS: Final = 50_000
MAX_SYMBOLS: Final = 24
MAX_FLAWS: Final = 20
COLUMNS: Final = ("date", "symbol", "price")

_SIGNATURES: Final = (
    (b"\xff\xfe", "UTF-16 text; save it as CSV in UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as CSV in UTF-8"),
    (b"PK\x03\x04", "a spreadsheet or a ZIP archive; export it as CSV"),
    (b"\x1f\x8b", "a gzip archive; send the CSV itself"),
    (b"%PDF", "a PDF; send the CSV itself"),
)


class Series(msgspec.Struct, frozen=True):
    """The prices of one symbol: at least two, ordered by date, no date twice."""

    symbol: str
    dates: tuple[dt.date, ...]
    prices: tuple[float, ...]


class InvalidPrices(ValueError):  # noqa: N818 - it reads as what it says: "raises InvalidPrices"
    """The file cannot be read as prices. `flaws` holds the first 20, `more` counts the others."""

    def __init__(self, flaws: Sequence[Flaw], more: int = 0) -> None:
        self.flaws = tuple(flaws)
        self.more = more
        shown = "; ".join(_line(flaw) for flaw in self.flaws)
        super().__init__(shown + (f"; and {more} more" if more else ""))


def parse(data: bytes) -> tuple[Series, ...]:
    """The series of a price file, in the order in which their symbols first appear.

    Raises `InvalidPrices` for anything that is not a complete, sensible price file, and nothing else. A
    file over `MAX_BYTES` is refused before it is looked at; reading stops at `MAX_ROWS`.
    """
    records = _records(_text(data))
    columns = _columns(next(records, None))
    rows = _Rows()
    for row, record in records:
        rows.add(row, record, columns)
    return rows.series()


def _text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _whole_file(f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are allowed")
    if not data.strip():
        raise _whole_file("the file is empty; it needs a header line date,symbol,price and rows below it")
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            raise _whole_file(f"this is not CSV: it looks like {what}")
    nul = data.find(b"\0")
    if nul >= 0:
        raise InvalidPrices([_flaw(_row_at(data, nul), None, f"a NUL byte at offset {nul:,}: this is not a text file")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind the byte order mark; the person counts from the start of the file.
        offset = error.start + (len(data) - len(error.object))
        message = f"byte 0x{data[offset]:02X} at offset {offset:,} is not UTF-8; save the file in UTF-8"
        raise InvalidPrices([_flaw(_row_at(data, offset), None, message)]) from None


def _flaw(row: int | None, column: str | None, detail: str) -> Flaw:
    """`row` is the line in the file, counted from 1 (the header); None for the file as a whole."""
    return Flaw(detail=detail, row=row, column=column)


def _line(flaw: Flaw) -> str:
    where = [f"row {flaw.row}" if flaw.row else "", flaw.column or ""]
    return ": ".join([", ".join(filter(None, where)), flaw.detail]).removeprefix(": ")


def _whole_file(message: str) -> InvalidPrices:
    return InvalidPrices([_flaw(None, None, message)])


def _row_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line on which it starts; records without content are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    row = 1
    try:
        for record in reader:
            fields = [field.strip() for field in record]
            if any(fields):
                yield row, fields
            row = reader.line_num + 1
    except csv.Error as error:
        raise InvalidPrices([_flaw(row, None, f"not CSV from here on: {error}")]) from None


def _columns(header: tuple[int, list[str]] | None) -> tuple[str, ...]:
    """The wanted columns in the order in which the file has them."""
    if header is None:
        raise _whole_file("the file has no header; its first line must be date,symbol,price")
    row, names = header
    columns = tuple(name.lower() for name in names)
    if sorted(columns) == sorted(COLUMNS):
        return columns
    found = ", ".join(quoted(name) for name in names[:10]) + (", …" if len(names) > 10 else "")
    reasons = [f"{name} is missing" for name in COLUMNS if name not in columns]
    reasons += [f"{name} is there {columns.count(name)} times" for name in COLUMNS if columns.count(name) > 1]
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        reasons.append("separate the columns by commas")
    message = f"wanted the columns date, symbol and price (in any order), found {found}"
    raise InvalidPrices([_flaw(row, None, message + "".join(f"; {reason}" for reason in reasons))])


class _Rows:
    """Gathers rows and flaws; `series` gives the one or raises the other."""

    def __init__(self) -> None:
        self._prices: dict[str, dict[dt.date, tuple[float, int]]] = {}
        self._flaws: list[Flaw] = []
        self._more = 0
        self._count = 0

    def add(self, row: int, record: list[str], columns: tuple[str, ...]) -> None:
        self._count += 1
        if self._count > MAX_ROWS:
            raise InvalidPrices([_flaw(row, None, f"the file has more than {MAX_ROWS:,} rows, the most allowed")])
        if len(record) != len(columns):
            self._refuse(row, None, f"{len(record)} fields where the header has {len(columns)}")
            return
        fields = dict(zip(columns, record, strict=True))
        date = self._field(row, "date", fields, parse_date)
        symbol = self._field(row, "symbol", fields, parse_symbol)
        price = self._field(row, "price", fields, parse_price)
        if date is not None and symbol is not None and price is not None:
            self._keep(row, date, symbol, price)

    def series(self) -> tuple[Series, ...]:
        # Judged only on a file whose rows are all sound: a refused row would make its symbol look short.
        if not self._flaws:
            self._judge_symbols()
        if self._flaws:
            raise InvalidPrices(self._flaws, self._more)
        return tuple(_one_series(symbol, prices) for symbol, prices in self._prices.items())

    def _refuse(self, row: int | None, column: str | None, message: str) -> None:
        if len(self._flaws) < MAX_FLAWS:
            self._flaws.append(_flaw(row, column, message))
        else:
            self._more += 1

    def _field(self, row: int, column: str, fields: dict[str, str], parse_field: Callable[[str], T]) -> T | None:
        try:
            return parse_field(fields[column])
        except ValueError as error:
            self._refuse(row, column, str(error))
            return None

    def _keep(self, row: int, date: dt.date, symbol: str, price: float) -> None:
        earlier = self._prices.setdefault(symbol, {}).setdefault(date, (price, row))
        if earlier[1] != row:
            self._refuse(row, "date", f"{quoted(symbol)} has a price for {date} already, in row {earlier[1]}")

    def _judge_symbols(self) -> None:
        if not self._prices:
            raise _whole_file("the file has a header but no rows")
        if len(self._prices) > MAX_SYMBOLS:
            raise _whole_file(f"the file has {len(self._prices):,} symbols; at most {MAX_SYMBOLS} are allowed")
        for symbol, prices in self._prices.items():
            if len(prices) == 1:
                ((_, row),) = prices.values()
                self._refuse(row, "symbol", f"{quoted(symbol)} has this one row; a return needs at least two")


def _one_series(symbol: str, prices: dict[dt.date, tuple[float, int]]) -> Series:
    dates = tuple(sorted(prices))
    return Series(symbol, dates, tuple(prices[date][0] for date in dates))
