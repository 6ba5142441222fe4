"""Forced interleavings of the kit's statements; each scenario's docstring is the rule it holds."""

from collections.abc import Awaitable, Callable

import pytest

from databases import Database
from integration.outbox.scenarios import (
    children,
    claims,
    clocks,
    deadlocks,
    deliveries,
    endings,
    enqueueing,
    fences,
    handing_over,
    sweeping,
)
from integration.outbox.stage import Stage, staged

THEMES = [claims, fences, deliveries, sweeping, endings, enqueueing, deadlocks, children, clocks, handing_over]


@pytest.mark.parametrize("scenario", [s for theme in THEMES for s in theme.SCENARIOS], ids=lambda s: s.__name__)
async def test_interleaving(scenario_database: Database, scenario: Callable[[Stage], Awaitable[None]]) -> None:
    """Step by step, with locks held where it hurts, what the scenario's docstring says holds."""
    async with staged(scenario_database) as stage:
        await scenario(stage)
