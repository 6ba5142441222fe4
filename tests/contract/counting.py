"""How many cases each operation was tried with, said at the end of the run: one number, however many xdist workers.

A pytest plugin: where it is loaded, its last three functions are called.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

_KEY = "contract_cases"
_cases: Counter[str] = Counter()


def count(operation: str) -> None:
    """Count one case; `operation` is the line it is added to, for example `web, live: GET /health`."""
    _cases[operation] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """An xdist worker hands its numbers to the process that started it."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_KEY] = dict(_cases)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The process that started a worker adds the worker's numbers to its own; a worker that crashed has none."""
    _cases.update(getattr(node, "workeroutput", {}).pop(_KEY, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each operation, and their sum; nothing when no case was counted."""
    if not _cases:
        return
    terminalreporter.section("contract cases")
    width = len(f"{_cases.total():,}")
    for operation, cases in sorted(_cases.items()):
        terminalreporter.write_line(f"{cases:>{width},}  {operation}")
    terminalreporter.write_line(f"{_cases.total():,}  in all")
    _cases.clear()
