"""Alternating rounds: every contender once, then every contender again, so that a slow minute slows them all."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


async def alternate(contenders: Mapping[str, Callable[[], Awaitable[T]]], rounds: int) -> dict[str, list[T]]:
    """Run each contender once a round; what they returned, by name and in the order of the rounds."""
    found: dict[str, list[T]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            found[name].append(await contender())
    return found
