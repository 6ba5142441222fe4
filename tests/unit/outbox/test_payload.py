"""From a caller's payload to JSON text, or a TypeError that names what is wrong."""

import dataclasses
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outboxkit import Handlers, Job
from outboxkit.payload import MAX_DEPTH, encode, encode_value

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


class Address(msgspec.Struct):
    """A plain Struct."""

    city: str
    tags: list[str] = []


class Order(msgspec.Struct, rename="camel", tag="order", tag_field="type"):
    """A renamed and tagged Struct, with one inside."""

    order_id: int
    ship_to: Address


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: float
    label: str | None = None


class Line(pydantic.BaseModel, extra="forbid"):
    """A pydantic model with aliases and a computed field, which its own validation would refuse to read back."""

    unit_price: Decimal = pydantic.Field(alias="unitPrice")
    day: date

    @pydantic.computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def label(self) -> str:
        """Made from the rest."""
        return f"{self.day}: {self.unit_price}"


class Colour(Enum):
    """An enum with plain values."""

    RED = "red"


# No deadline: machines that run tests are slow at times.
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(st.dictionaries(TEXT, JSON))
def test_round_trip(payload: dict[str, Any]) -> None:
    """Any JSON object comes back as it was, whoever decodes it."""
    text = encode(payload)
    assert json.loads(text) == payload
    assert msgspec.json.decode(text) == payload


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"a": [1, 2.5, None, True, "ü"]}, {"a": [1, 2.5, None, True, "ü"]}),
        (MappingProxyType({"a": MappingProxyType({"b": 1})}), {"a": {"b": 1}}),
        (Address("Köln"), {"city": "Köln", "tags": []}),
        (Order(7, Address("x", ["y"])), {"type": "order", "orderId": 7, "shipTo": {"city": "x", "tags": ["y"]}}),
        (Point(1.5), {"x": 1.5, "label": None}),
        (Line(unitPrice="1.10", day="2026-07-08"), {"unitPrice": "1.10", "day": "2026-07-08"}),
        ({"lines": [Line(unitPrice="2", day="2026-01-01")]}, {"lines": [{"unitPrice": "2", "day": "2026-01-01"}]}),
        ({"p": Point(1.0), "a": (Address("x"),)}, {"p": {"x": 1.0, "label": None}, "a": [{"city": "x", "tags": []}]}),
        (
            {"id": UUID(int=1), "at": datetime(2026, 7, 8, tzinfo=UTC), "d": Decimal("1.0"), "c": Colour.RED},
            {"id": "00000000-0000-0000-0000-000000000001", "at": "2026-07-08T00:00:00Z", "d": "1.0", "c": "red"},
        ),
    ],
)
def test_kinds(payload: Any, expected: dict[str, Any]) -> None:
    """Mappings, Structs, dataclasses and pydantic models become the object a reader would expect."""
    assert json.loads(encode(payload)) == expected


@pytest.mark.parametrize("payload", [Order(7, Address("x")), Point(2.0, "p"), Line(unitPrice="3.30", day="2026-07-08")])
def test_the_handler_gets_what_was_enqueued(payload: Any) -> None:
    """A handler annotated with the producer's own type gets an equal value back."""
    handlers = Handlers()

    async def handler(payload: Any, job: Job) -> None:
        """Take it."""

    handler.__annotations__["payload"] = type(payload)
    handlers.register("K")(handler)
    registered = handlers.get("K")
    assert registered is not None
    assert registered.decode(encode(payload)) == payload


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def _endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value
    return value


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ({"a": {"b": [1, float("nan")]}}, r"payload\.a\.b\[1\]: nan has no JSON form"),
        ({"a": float("-inf")}, r"payload\.a: -inf has no JSON form"),
        (Point(float("inf")), r"payload\.x: inf has no JSON form"),
        ({b"a": 1}, r"payload: the key b'a' is a bytes"),
        ({"a": {b"b": 1}}, r"payload\.a: the key b'b' is a bytes"),
        ({"a": [{1: 2}]}, r"payload\.a\[0\]: the key 1 is a int"),
        ({"a": "x\x00y"}, r"payload\.a: holds a NUL character"),
        ({"x\x00y": 1}, r"payload, key .*: holds a NUL character"),
        ({"a": "\ud800"}, r"payload\.a: holds a lone surrogate"),
        ({"\udfff": 1}, r"payload, key .*: holds a lone surrogate"),
        (Address("\ud800"), r"payload\.city: holds a lone surrogate"),
        ({"a": object()}, r"payload\.a: a object has no JSON form"),
        ({"a": [1, {"b": lambda: 1}]}, r"payload\.a\[1\]\.b: a function has no JSON form"),
        ({"a": Line}, r"payload\.a: a \w+ has no JSON form"),
        (Point(object()), r"payload\.x: a object has no JSON form"),  # type: ignore[arg-type]  # that is the point
        (Address, r"payload is the class Address; pass an instance"),
        (Line, r"payload is the class Line; pass an instance"),
        (dict, r"payload is the class dict; pass an instance"),
        ([1, 2], r"payload is a list; wanted a dict"),
        ("text", r"payload is a str; wanted a dict"),
        (7, r"payload is a int; wanted a dict"),
        (_nested(MAX_DEPTH + 1), r"nested more than 100 deep"),
        (_nested(100_000), r"nested more than 100 deep"),
        (_endless(), r"nested more than 100 deep"),
        ({"a": 10**5000}, r"payload\.a: an integer of \d+ bits"),
    ],
)
def test_refusals(payload: Any, complaint: str) -> None:
    """What JSON or Postgres cannot hold as it is, is a TypeError that says where and why."""
    with pytest.raises(TypeError, match=complaint):
        encode(payload)


def test_deepest() -> None:
    """Nesting up to the limit is fine."""
    assert json.loads(encode(_nested(MAX_DEPTH))) == _nested(MAX_DEPTH)


@few
@given(JSON)
def test_values(value: Any) -> None:
    """A handler's result may be any JSON value, under the same rules."""
    assert json.loads(encode_value(value, name="result")) == value


def test_value_refused() -> None:
    """And what it may not be is named."""
    with pytest.raises(TypeError, match=r"result\.rows: a set_iterator has no JSON form"):
        encode_value({"rows": iter(set())}, name="result")
