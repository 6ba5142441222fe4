"""The checks, one group a module, in the order in which they are run."""

from importlib import import_module
from typing import Final

GROUPS: Final = ("health", "credentials", "requests", "jobs", "states", "http", "generated", "capacity")


def load() -> None:
    """Import every group, so that its checks are registered."""
    for group in GROUPS:
        import_module(f"{__name__}.{group}")
