import subprocess
import sys

import pytest

from outboxkit.application import load
from outboxkit_reports.views import Cursor, JobState, state_of


def test_is_an_application() -> None:
    """OUTBOXKIT_APP=outboxkit_reports finds its handlers and its routes."""
    application = load("outboxkit_reports")
    assert application.handlers.kinds() == ["FINISH_RUN", "RUN_SECTION", "START_RUN"]
    assert application.routes()


def test_handlers_import_without_litestar_and_jinja() -> None:
    """A producer or a worker's poller needs neither the web framework nor the template engine."""
    code = "import sys, outboxkit_reports; sys.exit(bool({'litestar', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("completed", "cancelled", "jobs", "state"),
    [
        (False, False, [("queued", 0)], "queued"),
        (False, False, [("queued", 1)], "running"),
        (False, False, [("running", 1)], "running"),
        (False, False, [("succeeded", 1), ("queued", 0)], "running"),
        (False, False, [("succeeded", 1), ("failed", 5), ("running", 1)], "failed"),
        (False, False, [("succeeded", 1), ("cancelled", 0)], "cancelled"),
        (False, False, [("succeeded", 1)], "failed"),
        (False, False, [], "failed"),
        (False, True, [("failed", 5)], "cancelled"),
        (True, False, [], "succeeded"),
        (True, False, [("succeeded", 1)], "succeeded"),
    ],
)
def test_the_state_is_derived(completed: bool, cancelled: bool, jobs: list[tuple[JobState, int]], state: str) -> None:
    """From the row and the jobs, whatever retention has left of them."""
    assert state_of(completed=completed, cancelled=cancelled, jobs=jobs) == state


@pytest.mark.parametrize("text", ["", "x", "Zm9v", "\u00e9", "MjAwMC0wMS0wMSAx", "=" * 7])
def test_a_forged_cursor_is_a_value_error(text: str) -> None:
    """Nothing a client may send raises anything else."""
    with pytest.raises(ValueError):  # noqa: PT011 (its text depends on what is wrong, and is not shown)
        Cursor.decode(text)
