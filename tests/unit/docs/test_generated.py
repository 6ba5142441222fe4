"""Documents that are made from code."""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[3]


def test_generated_documents_are_fresh() -> None:
    """openapi/web.yaml and docs/environment-variables.md say what the code says; `make docs` mends them."""
    check = [sys.executable, TOP / "scripts" / "generate-docs", "--check"]
    run = subprocess.run(check, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
