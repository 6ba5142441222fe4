"""Payloads through jsonb and back, by the statements that really carry them."""

from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from databases import Database
from outboxkit.payload import encode

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=10)


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[psycopg.Connection[Any]]:
    """One connection for every example."""
    with module_database.sync() as made:
        yield made


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payload=st.dictionaries(TEXT, JSON))
@example(payload={"a": [5e-324, 1.7976931348623157e308, -1e16, 0.1, 2**63, -(2**64), 10**4000]})
@example(payload={"": {"": ""}, "\U0010ffff": "\x7f\u2028\\u0000"})
def test_round_trip(connection: psycopg.Connection[Any], payload: dict[str, Any]) -> None:
    """Any payload that encode accepts comes out of a claim's `payload::text` as it went in.

    One thing is jsonb's own: it has decimal numbers and no floats, so that 1e16 comes back as 10000000000000000. Read as
    a float it is the same float again.
    """
    row = connection.execute(
        "with job as (select outboxkit.enqueue_job('K', cast(%s as jsonb)) as id) select id from job", [encode(payload)]
    ).fetchone()
    assert row is not None
    text = connection.execute("select payload::text from outboxkit.jobs where id = %s", row).fetchone()
    assert text is not None
    assert same(msgspec.json.decode(text[0]), payload)


def same(read: Any, written: Any) -> bool:
    """Whether what was read is what was written; a number where a float was written is read as a float."""
    if isinstance(written, dict):
        return read.keys() == written.keys() and all(same(read[key], written[key]) for key in written)
    if isinstance(written, list):
        return len(read) == len(written) and all(map(same, read, written))
    return float(read) == written if isinstance(written, float) else bool(read == written)
