"""`outboxkit conformance`: what it prints and writes, its exit status, and what it says to mistakes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from contract.conformance.workers import SECRET, broken, running
from databases import Database
from sink import free_port

FEW = ("--only", "request.media-type*", "--only", "credentials.*")


@pytest.fixture
def url(database: Database, psql: Path) -> Iterator[str]:
    """A worker that takes any media type."""
    with running(broken("takes any media type"), database.url, psql) as address:
        yield address


def conformance(*arguments: str, secret: str = SECRET) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "outboxkit_cli", "conformance", *arguments]
    environment = os.environ | {"WORKER_TRIGGER_SECRET": secret}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_the_table_says_what_where_and_how_to_see_it(url: str) -> None:
    """Each check with its outcome and its section; what failed with what was due, and a command line; status 1."""
    done = conformance(url, *FEW)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(
        line.startswith("  ✓ The content type may have") and "POST /process-job requestBody" in line for line in lines
    )
    assert any(line.startswith("  ✗ A body that is not declared") and "POST /process-job 415" in line for line in lines)
    assert (
        "    what      415 unsupported-media-type is due for a missing content type; the answer is 404" in done.stdout
    )
    assert "    try       curl -i " in done.stdout
    assert '-H "x-worker-trigger: $WORKER_TRIGGER_SECRET"' in done.stdout
    assert "6 passed, 1 failed, 0 skipped in" in lines[-1]
    assert SECRET not in done.stdout + done.stderr


def test_the_command_line_that_it_prints_shows_the_failure(url: str) -> None:
    """Pasted into a shell it gets the answer that the suite complains about."""
    done = conformance(url, "--only", "request.media-type")
    line = next(line for line in done.stdout.splitlines() if line.startswith("    try "))
    command = line.removeprefix("    try").strip()
    environment = os.environ | {"WORKER_TRIGGER_SECRET": SECRET}
    shown = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("HTTP/1.1 404")


def test_what_curl_cannot_send_is_printed_for_bash(database: Database, psql: Path) -> None:
    """Bytes on a socket: pasted into bash they get the same answer, with the secret from the environment."""
    with running(broken("closes on chunks"), database.url, psql) as address:
        done = conformance(address, "--only", "http.chunked")
        line = next(line for line in done.stdout.splitlines() if line.startswith("    try "))
        environment = os.environ | {"WORKER_TRIGGER_SECRET": SECRET}
        command = ["bash", "-c", line.removeprefix("    try").strip()]
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert SECRET not in done.stdout
    assert shown.stdout.startswith("HTTP/1.1 400"), (line, shown)
    assert "No chunks here." in shown.stdout


def test_reports_are_written_in_three_formats(url: str, tmp_path: Path) -> None:
    """JUnit XML, JSON and HTML say the same, and hold no secret."""
    files = {name: tmp_path / f"report.{name}" for name in ("junit", "json", "html")}
    done = conformance(url, *FEW, *(word for name, path in files.items() for word in ("--report", f"{name}={path}")))
    assert done.returncode == 1
    suite = ElementTree.parse(files["junit"]).getroot()[0]  # noqa: S314 (our own file)
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "7",
        "failures": "1",
        "skipped": "0",
    }
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.text
    assert "curl -i" in failure.text
    document = json.loads(files["json"].read_text())
    assert document["counts"] == {"passed": 6, "failed": 1, "skipped": 0}
    assert document["requests"] == sum(result["requests"] for result in document["results"]) > 10
    bad = [result for result in document["results"] if result["outcome"] == "failed"]
    assert [(result["check"], result["section"]) for result in bad] == [
        ("request.media-type", "#/paths/~1process-job/post/responses/415")
    ]
    page = files["html"].read_text()
    HTMLParser().feed(page)
    assert page.count('<tr class="passed"') == 6
    assert 'class="failed" id="request.media-type"' in page
    assert not any(word in page for word in ("<script", "http-equiv", "src=", "@import"))
    assert not any(SECRET in path.read_text() for path in files.values())


def test_jobs_may_come_from_a_command(url: str, database: Database) -> None:
    """--job-id-command prints the id of a new job; sorts of jobs that it cannot make are skipped; --strict minds."""
    enqueue = f"{sys.executable} -m outboxkit_cli enqueue --database-url '{database.url}' ECHO"
    few = ("--only", "jobs.accepted", "--only", "jobs.not-due")
    done = conformance(url, *few, "--job-id-command", enqueue)
    assert done.returncode == 0, done.stdout
    assert "needs a future job: put {need} into --job-id-command" in done.stdout
    assert "1 passed, 0 failed, 1 skipped" in done.stdout
    assert conformance(url, *few, "--strict", "--job-id-command", enqueue).returncode == 1
    later = '"$(date -u -d "+1 hour" +%FT%TZ)"'
    sorts = f"case {{need}} in future) {enqueue} --run-at {later};; quick) {enqueue};; *) exit 64;; esac"
    done = conformance(url, *few, "--only", "jobs.unknown-kind", "--job-id-command", sorts)
    assert "2 passed, 0 failed, 1 skipped" in done.stdout, done.stdout
    assert "makes no unknown-kind job" in done.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [("echo not-an-id", "which is no job id"), ("echo broken >&2; exit 3", "exited with 3: broken"), ("true", "''")],
)
def test_a_command_that_makes_no_job_is_a_failure(url: str, command: str, message: str) -> None:
    """It says what the command did."""
    done = conformance(url, "--only", "jobs.accepted", "--job-id-command", command)
    assert done.returncode == 1
    assert message in done.stdout


def test_without_jobs_what_needs_one_is_skipped(url: str) -> None:
    """And says what to give."""
    done = conformance(url, "--only", "jobs.*")
    assert done.returncode == 0, done.stdout
    assert "needs a quick job: give --job-id-command or --database-url" in done.stdout
    assert "1 passed, 0 failed, 10 skipped" in done.stdout


def test_a_wrong_secret_is_noticed(url: str) -> None:
    """Nearly everything fails, and the secret that was given is in no line."""
    done = conformance(url, "--only", "credentials.right", secret="mistaken-secret")
    assert done.returncode == 1
    assert "the answer is 403 forbidden" in done.stdout
    assert "mistaken-secret" not in done.stdout


def test_an_address_where_nobody_is_ends_it_at_once(tmp_path: Path) -> None:
    """One line, status 1, and no report that could be mistaken for one."""
    report = tmp_path / "report.xml"
    done = conformance(f"http://127.0.0.1:{free_port()}", "--report", f"junit={report}")
    assert done.returncode == 1
    assert done.stderr.startswith("outboxkit: no worker answers at http://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1
    assert not report.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "request.nonsense"], "is called 'request.nonsense'"),
        (["--kind", "ECHO"], "go with --database-url"),
        (["--database-url", "postgresql://localhost/x"], "needs --kind"),
        (["--database-url", "postgresql://x", "--job-id-command", "x"], "not both"),
        (["--database-url", "postgresql://x", "--kind", "ECHO={"], "not JSON"),
        (["--report", "pdf"], "'pdf' is none of junit, json, html"),
        (["--report", "json=/no/such/folder/x.json"], "there is no folder /no/such/folder"),
        (["--header", "secret-token"], "a header is written 'Name: value'"),
        (["--level", "some"], "'some' is not one of"),
    ],
)
def test_mistakes_are_usage_errors(arguments: list[str], message: str) -> None:
    """Status 2, before anything is sent; a header's value, which may be a secret, is not repeated."""
    done = conformance("http://127.0.0.1:1", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "secret-token" not in done.stderr


def test_a_database_that_is_away_is_said_in_a_line(url: str) -> None:
    """With the reason, and without a password."""
    away = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x"
    done = conformance(url, "--database-url", away, "--kind", "ECHO")
    assert done.returncode == 1
    assert done.stderr.startswith("outboxkit: the database cannot be used:")
    assert "hunter2" not in done.stderr
