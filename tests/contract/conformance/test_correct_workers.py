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
from oidc_issuer import ACCOUNT, AUDIENCE, OidcIssuer
from outboxkit_contracts.conformance import Level, run, select
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


@pytest.mark.parametrize(
    ("authentication", "secret", "token", "skipped"),
    [
        ("oidc", None, True, True),
        ("any", SECRET, False, False),
        ("any", None, True, True),
        ("any", SECRET, True, True),
        ("all", SECRET, True, False),
    ],
)
def test_our_worker_with_tokens_conforms(
    database: Database, psql: Path, authentication: str, secret: str | None, token: bool, skipped: bool
) -> None:
    """Level basic, by token, by secret, by both; the checks of the secret are left out where it does not matter."""
    issuer = OidcIssuer()
    changes = {
        "WORKER_OIDC_ISSUER": issuer.url,
        "WORKER_OIDC_SERVICE_ACCOUNTS": ACCOUNT,
        "WORKER_OIDC_AUDIENCE": AUDIENCE,
        "WORKER_TRIGGER_SECRET": "" if authentication == "oidc" else SECRET,
        "WORKER_AUTHENTICATION": "" if authentication == "oidc" else authentication,
    }
    headers = (("Authorization", f"Bearer {issuer.token()}"),) if token else ()
    with (
        running(OURS, database.url, psql, **changes) as url,
        DatabaseJobs(database.url, quick=QUICK, slow=SLOW, failing=FAILING) as jobs,
    ):
        results = list(run(Target(url=url, secret=secret, headers=headers, jobs=jobs), select(Level.BASIC)))
    issuer.down()
    assert not [(result.check.name, result.message) for result in results if result.outcome == "failed"]
    left_out = {result.check.name for result in results if result.outcome == "skipped"}
    assert ("credentials.missing" in left_out) == skipped
    assert left_out <= {f"credentials.{name}" for name in ("right", "missing", "wrong", "elsewhere", "first")}


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
