"""docs/conformance.md says what the suite does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.conformance.caught import CAUGHT
from outboxkit_cli.commands import conformance
from outboxkit_contracts.conformance import Need, select

TEXT = (Path(__file__).parents[3] / "docs" / "conformance.md").read_text()


def test_the_table_of_broken_workers_is_the_one_that_is_tested() -> None:
    """Each broken worker with the checks that notice it, and no other."""
    rows = re.findall(r"^\| ([^|`]+) \| (`.*`) \|$", TEXT, re.MULTILINE)
    assert {name: tuple(re.findall("`([^`]+)`", cell)) for name, cell in rows} == CAUGHT


def test_every_option_and_sort_of_job_that_is_named_exists() -> None:
    """Options of the command, and what {need} may be."""
    options = {option for parameter in conformance.params for option in parameter.opts}
    assert set(re.findall(r"(--[a-z][a-z-]+)", TEXT)) <= options
    assert all(f"`{need}`" in TEXT for need in Need)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_the_class_under_pytest_is_the_suite(block: str, tmp_path: Path) -> None:
    """The example is collected as one test for each check."""
    (tmp_path / "test_worker.py").write_text(block)
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("TestMyWorker::test_conforms[") == len(select())
