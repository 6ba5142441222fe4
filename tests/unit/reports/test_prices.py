import csv
import datetime as dt
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outboxkit_contracts.problems import Flaw
from outboxkit_reports import prices
from outboxkit_reports.prices import InvalidPrices, parse

STOCKS = Path(__file__).parents[3] / "examples" / "stocks.csv"
HEADER = "date,symbol,price\n"


def refused(data: bytes | str) -> InvalidPrices:
    """Parse what must not be accepted; the refusal."""
    with pytest.raises(InvalidPrices) as caught:
        parse(data.encode() if isinstance(data, str) else data)
    return caught.value


def only_flaw(data: bytes | str) -> tuple[int | None, str | None, str]:
    """The one flaw of a file, as (row, column, detail)."""
    (flaw,) = refused(data).flaws
    return flaw.row, flaw.column, flaw.detail


def test_reads_the_sample_file() -> None:
    """The shipped sample has five companies, of which one starts four years later."""
    series = {one.symbol: one for one in parse(STOCKS.read_bytes())}
    assert {symbol: len(one.prices) for symbol, one in series.items()} == {
        "MSFT": 123,
        "AMZN": 123,
        "IBM": 123,
        "GOOG": 68,
        "AAPL": 123,
    }
    assert series["GOOG"].dates[0] == dt.date(2004, 8, 1)
    assert (series["MSFT"].dates[0], series["MSFT"].prices[0]) == (dt.date(2000, 1, 1), 39.81)


@pytest.mark.parametrize(
    "text",
    [
        "date,symbol,price\n2000-01-31,A,1.5\n2000-02-29,A,2\n",
        "PRICE,Date,Symbol\n1.5,2000-01-31,A\n2,2000-02-29,A\n",
        "\ufeffdate,symbol,price\r\n2000-01-31,A,1.5\r\n2000-02-29,A,2\r\n",
        "symbol,date,price\nA,Feb 29 2000,2\nA,Jan 31 2000,1.5\n",
        'symbol,date,price\nA,"January 31, 2000",1.50\n\n,,\nA,feb 29 2000,2.0',
        ' date , symbol , price \n 2000-01-31 , A , 1.5 \n"2000-02-29","A","2"\n',
    ],
    ids=["plain", "any order and case", "BOM and CRLF", "named months, unsorted", "long names, gaps", "spaces, quotes"],
)
def test_accepts_every_documented_spelling(text: str) -> None:
    """Column order, case, date style, BOM, CRLF, blank rows and the order of rows make no difference."""
    assert parse(text.encode()) == (prices.Series("A", (dt.date(2000, 1, 31), dt.date(2000, 2, 29)), (1.5, 2.0)),)


def test_a_symbol_may_be_any_printable_text() -> None:
    """Escaping is the renderer's duty: the parser takes a symbol named <script> as it is."""
    (series,) = parse(f"{HEADER}2000-01-01,<script>,1\n2000-02-01,<script>,2\n".encode())
    assert series.symbol == "<script>"


def test_symbols_that_look_the_same_are_the_same() -> None:
    """A composed and a decomposed é are one symbol."""
    (series,) = parse(f"{HEADER}2000-01-01,caf\u00e9,1\n2000-02-01,cafe\u0301,2\n".encode())
    assert series.prices == (1.0, 2.0)


@pytest.mark.parametrize(
    ("row", "column", "detail"),
    [
        ("2000-13-01,A,1", "date", '"2000-13-01" is not a day of the calendar'),
        ("Feb 30 2000,A,1", "date", '"Feb 30 2000" is not a day of the calendar'),
        ("01/02/2000,A,1", "date", '"01/02/2000" is not a date; write it as 2000-01-31 or Jan 31 2000'),
        ("Foo 1 2000,A,1", "date", '"Foo 1 2000" is not a date; write it as 2000-01-31 or Jan 31 2000'),
        (",A,1", "date", '"" is not a date; write it as 2000-01-31 or Jan 31 2000'),
        ("0001-01-01,A,1", "date", '"0001-01-01" lies outside the years 1800 to 2199'),
        ("2000-03-01,,1", "symbol", "the symbol is empty"),
        (f"2000-03-01,{'X' * 33},1", "symbol", f'"{"X" * 33}" is 33 characters long; at most 32 are allowed'),
        ("2000-03-01,A\u202eB,1", "symbol", '"A\\u202eB" holds characters that cannot be printed'),
        ("2000-03-01,A,", "price", "the price is empty"),
        ("2000-03-01,A,0", "price", '"0" is not a positive price'),
        ("2000-03-01,A,0.00", "price", '"0.00" is not a positive price'),
        ("2000-03-01,A,-3.5", "price", '"-3.5" is not a positive price'),
        ("2000-03-01,A,NaN", "price", '"NaN" is not a price; write a plain decimal number, like 39.81'),
        ("2000-03-01,A,inf", "price", '"inf" is not a price; write a plain decimal number, like 39.81'),
        ("2000-03-01,A,1_000", "price", '"1_000" is not a price; write a plain decimal number, like 39.81'),
        ("2000-03-01,A,\uff11", "price", '"\uff11" is not a price; write a plain decimal number, like 39.81'),
        ('2000-03-01,A,"1,000"', "price", '"1,000" is not a price; write a plain decimal number, like 39.81'),
        ("2000-03-01,A,1e5", "price", '"1e5" uses an exponent; write the price out, like 39.81'),
        ("2000-03-01,A,9999999999", "price", '"9999999999" lies outside 0.000001 to 1,000,000,000'),
        ("2000-03-01,A,0.0000001", "price", '"0.0000001" lies outside 0.000001 to 1,000,000,000'),
        ("2000-01-01,A,5", "date", '"A" has a price for 2000-01-01 already, in row 2'),
        ("2000-03-01,A", None, "2 fields where the header has 3"),
        ("2000-03-01,A,1,2", None, "4 fields where the header has 3"),
        ("2000-03-01,B,1", "symbol", '"B" has this one row; a return needs at least two'),
    ],
)
def test_names_row_and_column_of_a_bad_field(row: str, column: str | None, detail: str) -> None:
    """What is wrong with one row is reported with the line in the file, the column and what is wanted."""
    assert only_flaw(f"{HEADER}2000-01-01,A,1\n2000-02-01,A,2\n{row}\n") == (4, column, detail)


@pytest.mark.parametrize(
    ("data", "row", "detail"),
    [
        (b"", None, "the file is empty"),
        (b" \r\n\n", None, "the file is empty"),
        (b"\xef\xbb\xbf", None, "the file has no header"),
        (b",,\n,,\n", None, "the file has no header"),
        (HEADER.encode(), None, "the file has a header but no rows"),
        (b"date;symbol;price\n", 1, "separate the columns by commas"),
        (b"date,symbol\n", 1, "price is missing"),
        (b"date,symbol,price,price\n", 1, "price is there 2 times"),
        (b"date,symbol,price,volume\n", 1, 'found "date", "symbol", "price", "volume"'),
        (b"2000-01-01,A,1\n", 1, "wanted the columns date, symbol and price"),
        (b"date,symbol,price\n2000-01-01,\x00,1\n", 2, "a NUL byte at offset 29"),
        (b"date,symbol,price\n2000-01-01,caf\xe9,1\n", 2, "byte 0xE9 at offset 32 is not UTF-8"),
        (b"\xef\xbb\xbfdate,symbol,price\n2000-01-01,caf\xe9,1\n", 2, "byte 0xE9 at offset 35 is not UTF-8"),
        ("date,symbol,price\n".encode("utf-16"), None, "it looks like UTF-16 text"),
        (b"PK\x03\x04rest", None, "it looks like a spreadsheet or a ZIP archive"),
        (b"\x89PNG\r\n\x1a\n\x00", 3, "a NUL byte"),
        (b'date,symbol,price\n2000-01-01,"A,1\n', 2, "not CSV from here on"),
        (b'date,symbol,price\n2000-01-01,"A"x,1\n', 2, "not CSV from here on"),
    ],
)
def test_refuses_what_is_not_a_price_file(data: bytes, row: int | None, detail: str) -> None:
    """A file that is broken as a whole gets one flaw, with the row where there is one."""
    found_row, column, found = only_flaw(data)
    assert (found_row, column) == (row, None)
    assert detail in found


def test_a_record_over_several_lines_is_named_by_its_first() -> None:
    """A quoted field may hold a line break; rows after it keep their line in the file."""
    data = f'{HEADER}"2000-01-01\n",A,1\n2000-02-01,A,2\n2000-03-01,A,x\n'
    assert only_flaw(data)[0] == 5


def test_lists_twenty_flaws_and_counts_the_others() -> None:
    """A file with hundreds of bad rows gives a message a person can read."""
    refusal = refused(HEADER + "nonsense,A,1\n" * 300)
    assert len(refusal.flaws) == prices.MAX_FLAWS
    assert refusal.more == 300 - prices.MAX_FLAWS
    assert str(refusal).endswith("; and 280 more")
    assert str(refusal).startswith('row 2, date: "nonsense" is not a date')


def test_a_big_upload_is_refused_unread() -> None:
    """20 MB are refused by their length alone, whatever is in them."""
    row, column, detail = only_flaw(b"\x00" * 20_000_000)
    assert (row, column) == (None, None)
    assert detail == "the file has 20,000,000 bytes; at most 4,194,304 are allowed"


def test_states_the_limit_of_rows() -> None:
    """Reading stops at the first row too many."""
    rows = (f"{dt.date(1900, 1, 1) + dt.timedelta(days=n)},A,1\n" for n in range(prices.MAX_ROWS + 1))
    assert only_flaw(HEADER + "".join(rows)) == (50_002, None, "the file has more than 50,000 rows, the most allowed")


def test_states_the_limit_of_symbols() -> None:
    """More symbols than a page can show are refused."""
    rows = (f"2000-0{month}-01,S{n},1\n" for n in range(25) for month in (1, 2))
    assert only_flaw(HEADER + "".join(rows)) == (None, None, "the file has 25 symbols; at most 24 are allowed")


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_make_it_raise_anything_else(data: bytes) -> None:
    """Whatever is uploaded, the answer is series or InvalidPrices."""
    check_either(data)


FIELD = st.sampled_from(["2000-01-01", "Jan 1 2000", "A", "B", "1", "1.5", "-1", "nan", "1e9", "", '"', "\n", "\r"])


@settings(max_examples=300)
@given(st.lists(st.lists(FIELD | st.text(max_size=5), max_size=4), max_size=12), st.booleans())
def test_nothing_below_a_good_header_makes_it_raise_anything_else(rows: list[list[str]], quote: bool) -> None:
    """Also for rows that look almost right, quoted or not."""
    body = io.StringIO()
    if quote:
        csv.writer(body).writerows(rows)
    else:
        body.writelines(",".join(row) + "\n" for row in rows)
    check_either((HEADER + body.getvalue()).encode("utf-8", "surrogatepass"))


DAYS = st.dates(dt.date(1800, 1, 1), dt.date(2199, 12, 31))
PRICES = st.decimals("0.000001", "1000000000", places=6)


@given(st.dictionaries(DAYS, PRICES, min_size=2, max_size=30))
def test_every_row_comes_back(rows: dict[dt.date, object]) -> None:
    """What is written as a valid file is read as exactly that, in the order of dates."""
    text = HEADER + "".join(f"{day},A,{price}\n" for day, price in rows.items())
    (series,) = parse(text.encode())
    assert series.dates == tuple(sorted(rows))
    assert series.prices == tuple(float(str(rows[day])) for day in series.dates)


def check_either(data: bytes) -> None:
    """Series whose promises hold, or a refusal that says something."""
    found, flaws = outcome(data)
    assert found or flaws
    assert all(flaw.detail and flaw.detail.isprintable() for flaw in flaws)
    for series in found:
        assert len(series.dates) == len(series.prices) >= 2
        assert list(series.dates) == sorted(set(series.dates))
        assert all(0 < price <= 1e9 for price in series.prices)


def outcome(data: bytes) -> tuple[Sequence[prices.Series], Sequence[Flaw]]:
    """The series, or the flaws for which there are none."""
    try:
        return parse(data), ()
    except InvalidPrices as refusal:
        return (), refusal.flaws
