"""`outboxkit demo` makes a real report, and shows how."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from waiting import command_line, ended, until

PRICES = Path(__file__).parents[2] / "examples" / "stocks.csv"
DEMO = [sys.executable, "-m", "outboxkit_cli", "demo"]
LONGEST = 60


@pytest.mark.parametrize("mode", ["http", "db", "cloud-tasks"])
def test_the_demo_makes_a_report(tmp_path: Path, mode: str) -> None:
    """In every mode it exits with 0, prints every job with its times, and leaves report.html in the current folder."""
    done = subprocess.run(
        [*DEMO, PRICES, "--mode", mode], cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"trigger mode {mode}" in done.stdout
    shown = [line.split() for line in done.stdout.splitlines() if line.endswith("succeeded")]
    assert [line[0] for line in shown] == ["START_RUN", *["RUN_SECTION"] * 4, "FINISH_RUN"]
    assert all(line.count("ms") == 2 for line in shown)
    assert "\x1b" not in done.stdout  # it was not printed to a terminal
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "MSFT" in page


def test_prices_that_are_none_end_it_with_the_reason(tmp_path: Path) -> None:
    """What the web answers is shown, the exit status says that it failed, and there is no report."""
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("date,symbol,price\n2020-01-01,ACME,-1\n")
    done = subprocess.run([*DEMO, wrong], cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode == 1
    assert "422" in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while it starts ends every process it had started, with the status an interrupted command has."""
    output = subprocess.PIPE
    with subprocess.Popen([*DEMO, PRICES], cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            parent = psutil.Process(process.pid)
            until(lambda: "relay" in programs(parent), what="the roles to be started")
            family = parent.children(recursive=True)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=LONGEST)
            assert process.returncode == 130, said
        finally:
            process.kill()
    for member in family:
        until(lambda member=member: ended(member), what=f"{member} to end")  # type: ignore[misc] # a lambda's default has no type
    assert not (tmp_path / "report.html").exists()


def programs(parent: psutil.Process) -> list[str]:
    """The last words of its children's command lines."""
    return [line[-1] for child in parent.children() if (line := command_line(child))]
