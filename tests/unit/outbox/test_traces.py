"""W3C trace context."""

import pytest

from outboxkit import traces

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_new() -> None:
    """A fresh traceparent is well formed, and no two are alike."""
    made = {traces.new() for _ in range(50)}
    assert len(made) == 50
    assert {traces.parse(one) for one in made} == made


@pytest.mark.parametrize("value", [GOOD, GOOD.replace("00-0", "fe-0", 1)])
def test_good(value: str) -> None:
    """Versions of the future are carried as they are."""
    assert traces.parse(value) == value


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "garbage",
        GOOD.upper(),
        GOOD + "\n",
        GOOD + "-extra",
        " " + GOOD,
        GOOD.replace("00-", "ff-", 1),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        GOOD.replace("0af", "\N{FULLWIDTH DIGIT ZERO}af"),
    ],
)
def test_bad(value: str | None) -> None:
    """Anything else is no traceparent: a newline in a header least of all."""
    assert traces.parse(value) is None
