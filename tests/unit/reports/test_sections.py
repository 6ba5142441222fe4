import datetime as dt
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxkit_reports import sections
from outboxkit_reports.prices import parse

STOCKS = Path(__file__).parents[3] / "examples" / "stocks.csv"


def all_parts() -> dict[str, object]:
    """Every section of the sample as JSON and back."""
    series = parse(STOCKS.read_bytes())
    return {name: json.loads(json.dumps(sections.to_json(make(series)))) for name, make in sections.SECTIONS.items()}


def test_sections_survive_json() -> None:
    """What a job stores as jsonb is what the page is made of: floats and days come back exactly."""
    series = parse(STOCKS.read_bytes())
    parts = sections.from_json(all_parts())
    assert parts.summary == sections.summary(series)
    assert parts.performance == sections.performance(series)
    assert parts.risk == sections.risk(series)
    assert parts.correlation == sections.correlation(series)


def test_parts_name_exactly_the_sections() -> None:
    """A section added to the one is missed in the other at once."""
    assert tuple(sections.Parts.__struct_fields__) == tuple(sections.SECTIONS)


def test_growth_starts_at_100_and_ends_at_the_total_return() -> None:
    """Each line is rebased on its own first day."""
    for one in sections.performance(parse(STOCKS.read_bytes())).symbols:
        assert one.growth[0][1] == 100
        assert one.growth[-1][1] == pytest.approx(100 * (1 + one.total_return))


def test_the_matrix_is_symmetric_with_ones_on_its_diagonal() -> None:
    """And each pair of it is listed once, with the months both have."""
    section = sections.correlation(parse(STOCKS.read_bytes()))
    size = range(len(section.symbols))
    assert [section.matrix[i][i] for i in size] == [pytest.approx(1)] * 5
    assert all(section.matrix[i][j] == pytest.approx(section.matrix[j][i]) for i in size for j in size)
    assert len(section.pairs) == 10
    assert {pair.months for pair in section.pairs if "GOOG" in (pair.one, pair.other)} == {67}


@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=2000))
def test_thinning_keeps_ends_and_extremes(values: list[float]) -> None:
    """However long the series, its line is short and still shows the highest, the lowest, the first and the last."""
    days = [dt.date(1990, 1, 1) + dt.timedelta(days=n) for n in range(len(values))]
    points = sections.thinned(days, values)
    assert len(points) <= sections.CHART_POINTS + 2
    assert points[0] == (days[0], values[0])
    assert points[-1] == (days[-1], values[-1])
    assert {min(values), max(values)} <= {value for _, value in points}
    assert list(points) == sorted(points)


def test_best_and_worst_month_are_simple_returns() -> None:
    """A month that doubles is +100 %, not +69 %."""
    series = parse(b"date,symbol,price\n2000-01-01,A,1\n2000-02-01,A,2\n2000-03-01,A,1\n")
    (one,) = sections.performance(series).symbols
    assert one.best_month == pytest.approx(1)
    assert one.worst_month == pytest.approx(-0.5)
    assert one.cagr is None


def test_every_figure_is_finite_at_the_limits_of_prices() -> None:
    """The smallest and the largest price beside each other give no overflow."""
    rows = "".join(f"{day},A,{price}\n" for day, price in [("2000-01-01", "0.000001"), ("2001-01-01", "1000000000")])
    series = parse(("date,symbol,price\n" + rows).encode())
    (one,) = sections.performance(series).symbols
    assert one.cagr is not None
    assert math.isfinite(one.cagr)
    assert json.dumps(sections.to_json(sections.risk(series)), allow_nan=False)
