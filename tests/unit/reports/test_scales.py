import datetime as dt
import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from outboxkit_reports.charts.growth import spread
from outboxkit_reports.charts.scales import Scale, date_ticks, linear_ticks, log_ticks

SIZES = st.floats(1e-13, 1e17)


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))
def test_linear_ticks_span_the_range_evenly(low: float, extent: float) -> None:
    """From at or below low to at or above high, never so many that labels collide."""
    high = low + extent
    ticks = linear_ticks(low, high)
    tolerance = 1e-6 * extent
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= high - tolerance
    assert 2 <= len(ticks) <= 9


def test_linear_ticks_are_round() -> None:
    """Multiples of 1, 2 or 5 times a power of ten."""
    assert [round(tick, 9) for tick in linear_ticks(-0.09, 0.57)] == [-0.2, 0, 0.2, 0.4, 0.6]


@given(SIZES, SIZES)
@example(1e-13, 1.0000000000000002e-13)
def test_log_ticks_span_the_range(one: float, other: float) -> None:
    """For any prices that can be uploaded the axis covers the line, with a handful of labels above zero."""
    low, high = min(one, other), max(one, other)
    ticks = log_ticks(low, high)
    assert 0 < ticks[0] <= low * 1.001
    assert ticks[-1] >= high * 0.999
    assert 2 <= len(ticks) <= 16
    assert ticks == sorted(ticks)


@given(st.dates(dt.date(1800, 1, 1), dt.date(2199, 12, 31)), st.integers(1, 140_000), st.integers(4, 8))
def test_date_ticks_lie_within_the_period(first: dt.date, days: int, most: int) -> None:
    """One to `most` of them, in order, from a day to centuries."""
    last = min(first + dt.timedelta(days=days), dt.date(2199, 12, 31))
    ticks = date_ticks(first, last, most=most)
    assert 1 <= len(ticks) <= most
    assert all(first.toordinal() <= tick.at <= last.toordinal() for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)


def test_date_ticks_name_years_months_and_days() -> None:
    """The label is as fine as the step."""
    assert [tick.label for tick in date_ticks(dt.date(2000, 1, 1), dt.date(2010, 3, 1))] == [
        "2000", "2002", "2004", "2006", "2008", "2010",
    ]  # fmt: skip
    assert [tick.label for tick in date_ticks(dt.date(2000, 1, 15), dt.date(2000, 3, 15))] == ["Feb 2000", "Mar 2000"]
    assert [tick.label for tick in date_ticks(dt.date(2000, 1, 3), dt.date(2000, 1, 9))] == ["3 Jan 2000", "9 Jan 2000"]


def test_a_scale_without_extent_puts_everything_in_its_middle() -> None:
    """One day, or one price, is no division by zero."""
    assert Scale(5, 5, 0, 100)(5) == 50


@given(st.lists(st.floats(20, 300), max_size=8))
def test_labels_are_spread_without_changing_their_order(places: list[float]) -> None:
    """No two names at the lines' ends overlap."""
    moved = spread(places, gap=19, low=14, high=346)
    ordered = [moved[i] for i in sorted(range(len(places)), key=places.__getitem__)]
    assert all(later - earlier >= 19 - 1e-6 for earlier, later in itertools.pairwise(ordered))
    assert all(14 <= place <= 346 for place in moved)
