"""The command line: what it prints and how it exits, as far as no database is needed."""

import builtins
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outboxkit_cli.commands import outboxkit
from outboxkit_cli.extras import needs_extra
from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.main import main

NOTHING_SET = {"SERVICE_MODE": "", "DATABASE_URL": "", "OUTBOXKIT_APP": "", "PORT": "", "LOG_LEVEL": ""}


def run(*arguments: str, environment: Mapping[str, str] = {}) -> Result:
    """Run the command line with only the given variables set."""
    return CliRunner().invoke(outboxkit, arguments, env={**NOTHING_SET, **environment}, prog_name="outboxkit")


def test_every_wrong_setting_is_listed() -> None:
    """Problems of the process and of the role come together, one a line, and the exit status is 2."""
    wrong = {"PORT": "eighty", "LOG_LEVEL": "loud", "DATABASE_POOL_SIZE": "-1", "DATABASE_URL": "mysql://u:hunter2@h/d"}
    result = run("web", environment=wrong)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(wrong)
    assert {line.removeprefix("outboxkit: ").partition(":")[0] for line in lines} == set(wrong)
    assert "hunter2" not in result.output


def test_a_missing_setting_says_what_it_is_for() -> None:
    """A variable that must be set is named, with an example."""
    result = run("web")
    assert result.exit_code == 2
    assert "DATABASE_URL is not set" in result.stderr
    assert "postgresql://" in result.stderr


@pytest.mark.parametrize("value", ["", "webb"])
def test_start_needs_a_role(value: str) -> None:
    """`start` without a valid SERVICE_MODE names the three roles."""
    result = run("start", environment={"SERVICE_MODE": value})
    assert result.exit_code == 2
    assert "SERVICE_MODE" in result.stderr
    assert all(role in result.stderr for role in ("web", "worker", "relay"))


def test_a_module_that_is_not_there_is_a_wrong_setting() -> None:
    """An application that cannot be found is reported like any other wrong setting."""
    result = run("web", "--app", "no_such_module", environment={"DATABASE_URL": "postgresql://localhost/x"})
    assert result.exit_code == 2
    assert "no_such_module" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["enqueue", "GREET", "{"], "not JSON"),
        (["enqueue", "GREET", "{}", "--run-at", "tomorrow"], "ISO 8601"),
        (["enqueue", "GREET", "{}", "--run-at", "2030-01-01T00:00:00"], "offset"),
        (["relay", "--max-seconds", "3"], "--once"),
        (["demo", "no-such-file.csv"], "no-such-file.csv"),
        (["dev"], "--app"),
    ],
)
def test_wrong_usage_says_what_is_wrong(arguments: list[str], said: str) -> None:
    """A wrong argument gets one line that names it, and status 2."""
    result = run(*arguments, environment={"DATABASE_URL": "postgresql://localhost/x"})
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_migrations_are_printed_without_a_database() -> None:
    """`migrate --sql` needs no DATABASE_URL, and prints the kit's branch and those asked for."""
    alone, both = run("migrate", "--sql"), run("migrate", "--sql", "--branch", "reports")
    assert alone.exit_code == both.exit_code == 0
    assert "outboxkit.enqueue_job" in alone.stdout
    assert len(both.stdout) > len(alone.stdout)


def test_an_unreachable_database_is_one_line() -> None:
    """A database that cannot be reached gives a message, not a traceback, and not the password."""
    result = run("migrate", "--database-url", "postgresql://user:hunter2@127.0.0.1:1/none")
    assert result.exit_code == 1
    assert "could not be migrated" in result.stderr
    assert "hunter2" not in result.output


def test_the_version_is_the_distributions() -> None:
    """`--version` prints the installed version."""
    assert "outboxkit, version 0." in run("--version").stdout


def test_a_missing_package_names_its_extra() -> None:
    """A third-party package that a role needs and that is not there is named with the extra that brings it."""
    with pytest.raises(CommandFailed, match=r"aiohttp is not installed: install the extra outboxkit\[relay\]"):  # noqa: SIM117
        with needs_extra("relay"):
            raise ModuleNotFoundError(name="aiohttp")


def test_our_own_missing_module_is_a_bug() -> None:
    """A module of the kit itself that is missing is no matter of extras, and is not hidden."""
    with pytest.raises(ModuleNotFoundError), needs_extra("relay"):
        raise ModuleNotFoundError(name="outboxkit_relay.nonsense")


def test_without_click_the_console_script_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that installed the kit without its command line is told which extra brings it."""
    real = builtins.__import__

    def without_click(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "click":
            raise ModuleNotFoundError(name="click")
        return real(name, *arguments, **named)

    monkeypatch.delitem(sys.modules, "outboxkit_cli.commands")
    monkeypatch.setattr(builtins, "__import__", without_click)
    with pytest.raises(SystemExit, match=r"outboxkit\[cli\]"):
        main()
