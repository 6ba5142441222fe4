"""Text from outside, made safe to store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxkit.clipping import LIMIT, clip, describe


@given(st.text(), st.integers(1, 50))
def test_any_text(text: str, limit: int) -> None:
    """Whatever goes in, what comes out is valid, has no NUL, and is no longer than the limit."""
    clipped = clip(text, limit)
    assert len(clipped) <= limit
    assert "\x00" not in clipped
    assert clipped.encode().decode() == clipped


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=LIMIT))
def test_harmless_text(text: str) -> None:
    """What is harmless is left as it is."""
    assert clip(text) == text


def test_mark() -> None:
    """A cut is marked."""
    assert clip("x" * 11, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (KeyError("a\x00\ud800"), "KeyError: 'a\\x00\\ud800'"),
        (OSError("a\x00\ud800"), "OSError: a?"),
    ],
)
def test_describe(error: Exception, text: str) -> None:
    """An error is one line: its type and its text."""
    assert describe(error) == text
