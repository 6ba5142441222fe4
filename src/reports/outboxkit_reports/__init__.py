"""The sample application: upload prices, get a report. `OUTBOXKIT_APP=outboxkit_reports` names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outboxkit_reports.jobs import handlers

if TYPE_CHECKING:
    from outboxkit_reports.api import routes

__all__ = ["handlers", "routes"]


def __getattr__(name: str) -> Any:
    """`routes` is looked up by the web role only: a worker needs neither Litestar's routes nor the web kit."""
    if name == "routes":
        from outboxkit_reports.api import routes

        return routes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
