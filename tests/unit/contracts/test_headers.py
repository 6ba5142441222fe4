"""Prefer and Retry-After: what the RFCs allow is understood, everything else is as good as absent."""

import time
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outboxkit_contracts.headers import MAX_RETRY_AFTER, parse_prefer_wait, parse_retry_after

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("wait=10", 10),
        ("wait=0", 0),
        ("wait=010", 10),
        ("WAIT = 10", 10),
        ("\twait=10 ", 10),
        ('wait="10"', 10),
        (r'wait="1\0"', 10),
        ("wait=10; foo=bar", 10),
        ("respond-async, wait=100", 100),
        ("respond-async; wait=5, wait=7", 7),
        ('foo="a, wait=5; \\", wait=6", wait=7', 7),
        ("wait=1, wait=2", 1),
        ("wait=soon, wait=2", 2),
        (",, ,wait=3,", 3),
        ("wait=99999999999999999999", 2**31),
        ("wait=" + "9" * 5000, 2**31),
        ("wait", None),
        ("wait=", None),
        ('wait=""', None),
        ("wait=-1", None),
        ("wait=+1", None),
        ("wait=1.5", None),
        ("wait=1_0", None),
        ("wait=²", None),
        ("wait=٣", None),
        ("wait==5", None),
        ("awaits=5", None),
        ('"wait=5', None),
        ('foo="unclosed, wait=5', None),
    ],
)
def test_wait_is_found_among_preferences(value: str | None, seconds: int | None) -> None:
    """RFC 7240: names in any case, quotes, parameters, several preferences; the first usable wait counts."""
    assert parse_prefer_wait(value) == seconds


tokens = st.text(alphabet="abcdefxyz-", min_size=1, max_size=8).filter(lambda t: t != "wait")
quoted = st.text(alphabet='ab,;="\\ ', max_size=8).map(
    lambda t: '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
others = st.builds(lambda name, value: f"{name}={value}", tokens, tokens | quoted) | tokens


@given(st.lists(others, max_size=4), st.integers(0, 10**6), st.lists(others, max_size=4))
def test_other_preferences_do_not_hide_wait(before: list[str], seconds: int, after: list[str]) -> None:
    """Whatever well-formed preferences surround it, wait is found."""
    assert parse_prefer_wait(", ".join([*before, f"wait={seconds}", *after])) == seconds


@given(st.text() | st.text(alphabet='wait=;,"\\ 019'))
@example('\\"' * 20_000)
@example("wait=" + "²")
def test_prefer_never_raises(value: str) -> None:
    """Junk is ignored; a result is never negative."""
    seconds = parse_prefer_wait(value)
    assert seconds is None or 0 <= seconds <= 2**31


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("3601", MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("²", None),
        ("soon", None),
        ("120, 60", None),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
        ("Sunday, 06-Nov-94 08:50:07 GMT", 30),
        ("Sun Nov  6 08:50:07 1994", 30),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", MAX_RETRY_AFTER),
        ("Sun, 99 Nov 1994 08:50:07 GMT", None),
        ("Sun, 06 Xyz 1994 08:50:07 GMT", None),
        ("Sun, 06 Nov 1994 99:50:07 GMT", None),
        ("Sun, 06 Nov 1994 :::::::: GMT", None),
        ("Sun, 06 Nov 0000 08:50:07 GMT", None),
        ("Sun, 06 Nov 1994 08:50:07 PST", None),
        ("1994-11-06T08:50:07Z", None),
    ],
)
def test_retry_after_in_both_forms(value: str | None, seconds: int | None) -> None:
    """Seconds or a date in any of HTTP's three spellings; capped, never negative, ignored when malformed."""
    assert parse_retry_after(value, now=NOW) == seconds


def test_part_of_a_second_is_rounded_up() -> None:
    """Nobody comes back before the date."""
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:38 GMT", now=NOW + 0.5) == 1


def test_a_date_is_measured_from_the_present_by_default() -> None:
    """Without `now`, a date half an hour ahead is between 0 and half an hour ahead, and not at once."""
    seconds = parse_retry_after(formatdate(time.time() + 1800, usegmt=True))
    assert seconds is not None
    assert 0 < seconds <= 1801


@given(
    st.text()
    | st.text(alphabet="0123456789 :,-GMTSundayNov", max_size=40)
    | st.from_regex(
        r"(Sun, [0-9]{2} [A-Z][a-z]{2} [0-9]{4}|Sunday, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2}) [0-9:]{8} GMT",
        fullmatch=True,
    )
    | st.from_regex(r"Sun (Nov|Feb|Xyz) [0-9 ][0-9] [0-9:]{8} [0-9]{4}", fullmatch=True)
)
def test_retry_after_never_raises(value: str) -> None:
    """Whatever the header holds, the result is None or within bounds."""
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER
