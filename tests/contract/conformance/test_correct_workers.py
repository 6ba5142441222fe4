"""Correct workers pass: ours, as a pytest class of the suite, and one in the bare standard library, from the shell."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.conformance.conftest import FAILING, QUICK, SLOW
from contract.conformance.workers import OURS, SECRET, SLOTS, STANDARD_LIBRARY, running
from databases import Database, Server
from outboxkit_contracts.conformance.database import DatabaseJobs
from outboxkit_contracts.testing import Target, WorkerConformance


class TestOurWorker(WorkerConformance):
    """The worker of this kit, in a process of its own, at level full."""

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls, postgres_server: Server, migrated_template: Database, psql: Path) -> Iterator[Target]:
        """The worker on a database of its own."""
        with (
            postgres_server.temporary(template=migrated_template.name) as database,
            running(OURS, database.url, psql) as url,
            DatabaseJobs(database.url, quick=QUICK, slow=SLOW, failing=FAILING) as jobs,
        ):
            yield Target(url=url, secret=SECRET, jobs=jobs, slots=SLOTS)


def test_a_worker_in_the_standard_library_conforms(database: Database, psql: Path, tmp_path: Path) -> None:
    """`outboxkit conformance` on examples/stdlib-worker, level full: nothing fails, and only its document is left out."""
    report = tmp_path / "report.json"
    with running(STANDARD_LIBRARY, database.url, psql) as url:
        command = [
            sys.executable,
            "-m",
            "outboxkit_cli",
            "conformance",
            f"{url}/process-job",
            "--report",
            f"json={report}",
        ]
        command += [
            "--database-url",
            database.url,
            "--kind",
            f"{QUICK.name}={QUICK.payload}",
            "--failing-kind",
            FAILING.name,
        ]
        command += ["--slow-kind", f"{SLOW.name}={SLOW.payload}", "--slots", str(SLOTS), "--examples", "30"]
        environment = os.environ | {"WORKER_TRIGGER_SECRET": SECRET}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(report.read_text())["results"]
    assert {result["check"] for result in results if result["outcome"] == "skipped"} == {"health.document"}
    assert len(results) >= 45
