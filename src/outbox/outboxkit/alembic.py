"""For an adopter's own alembic environment: keeps its autogenerate away from the kit's tables."""

from __future__ import annotations

from typing import Any

from outboxkit.migrations import SCHEMA


def include_object(obj: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:  # noqa: ARG001 (alembic calls it so)
    """False for everything in the kit's schema; pass it to `context.configure(include_object=…)`.

    Without it, an environment with `include_schemas=True` would propose to drop the kit's tables.
    """
    table = getattr(obj, "table", obj)
    return getattr(table, "schema", None) != SCHEMA
