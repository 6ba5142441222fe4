"""What the relay reads from the environment, and what it says about it."""

import pytest

from outboxkit.modes import Mode
from outboxkit.settings import SettingsError, read_settings
from outboxkit_relay.assembly import destinations
from outboxkit_relay.mode import judge
from outboxkit_relay.settings import RelaySettings
from outboxkit_relay.triggers import Queues

DATABASE = {"DATABASE_URL": "postgres://user:pass@db/app"}


def read(**environ: str) -> RelaySettings:
    """Settings with a database."""
    return read_settings(RelaySettings, {**DATABASE, **environ})


def problems(**environ: str) -> list[str]:
    """What is wrong with these."""
    with pytest.raises(SettingsError) as caught:
        read(**environ)
    return caught.value.problems


def test_only_the_database_is_required() -> None:
    """Without anything else the mode is db, and nothing is wrong."""
    found = read()
    assert judge(found, None).mode is Mode.DB
    assert judge(found, None).problems == []
    [problem] = _problems_of({})
    assert problem.startswith("DATABASE_URL")


def _problems_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings(RelaySettings, environ)
    return caught.value.problems


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://worker:8080", "http://worker:8080/process-job"),
        ("http://worker:8080/", "http://worker:8080/process-job"),
        ("https://worker/process-job", "https://worker/process-job"),
        ("https://worker/base/process-job?x=1", "https://worker/base/process-job?x=1"),
    ],
)
def test_the_protocols_path_is_added_where_there_is_none(given: str, used: str) -> None:
    """A URL without a path gets /process-job; one with a path is used as it is."""
    assert read(WORKER_TRIGGER_URL=given).url == used


def test_another_path_is_warned_about() -> None:
    """A path that is not the protocol's is allowed, and probably a mistake."""
    [warning] = read(WORKER_TRIGGER_URL="http://worker/hook", WORKER_TRIGGER_SECRET="s").warnings()
    assert "WORKER_TRIGGER_URL" in warning
    assert "/hook" in warning
    assert read(WORKER_TRIGGER_URL="http://worker").warnings() == []


def test_http_without_a_secret_is_warned_about() -> None:
    """It works, for a worker without one."""
    [warning] = read(JOB_TRIGGER_MODE="http", WORKER_TRIGGER_URL="http://worker").warnings()
    assert "WORKER_TRIGGER_SECRET" in warning


def test_every_bad_value_is_reported_at_once() -> None:
    """A malformed URL, routes that are no JSON, numbers out of bounds: one line each, by the variable's name."""
    found = problems(
        WORKER_TRIGGER_URL="ftp://worker",
        TRIGGER_ROUTES="[1]",
        RELAY_CONCURRENCY="none",
        RELAY_RATE_LIMIT="0",
        JOB_TRIGGER_MODE="carrier-pigeon",
    )
    assert {line.split(":")[0] for line in found} == {
        "WORKER_TRIGGER_URL",
        "TRIGGER_ROUTES",
        "RELAY_CONCURRENCY",
        "RELAY_RATE_LIMIT",
        "JOB_TRIGGER_MODE",
    }


def test_no_secret_shows_in_a_problem_or_a_repr() -> None:
    """Neither the database's password nor the shared secret, whatever else is wrong."""
    secret = {"WORKER_TRIGGER_SECRET": "hush"}
    text = "\n".join(problems(RELAY_CONCURRENCY="x", WORKER_TRIGGER_URL="http://u:hush@worker", **secret))
    assert "hush" not in text
    assert "hush" not in repr(read(**secret))
    assert "pass" not in repr(read())


def test_the_lease_must_outlast_a_delivery() -> None:
    """Settings at odds are a problem that names both variables."""
    [problem] = problems(RELAY_LEASE_SECONDS="30", RELAY_DELIVERY_TIMEOUT_SECONDS="30")
    assert problem.startswith("RELAY_LEASE_SECONDS")
    assert "RELAY_DELIVERY_TIMEOUT_SECONDS" in problem


def test_a_delivery_must_outlast_the_wait() -> None:
    """A worker that waits 60 s cannot answer within 30."""
    [problem] = problems(TRIGGER_WAIT_SECONDS="60", RELAY_DELIVERY_TIMEOUT_SECONDS="30")
    assert problem.startswith("RELAY_DELIVERY_TIMEOUT_SECONDS")


@pytest.mark.parametrize("wait", ["0", "60", "590", "3600"])
def test_the_defaults_fit_any_wait(wait: str) -> None:
    """Deadline and lease follow the wait when they are not set."""
    found = read(TRIGGER_WAIT_SECONDS=wait)
    assert float(wait) < found.deadline < found.lease


def test_limits_below_their_bases_are_at_odds() -> None:
    """The longest wait cannot be shorter than the first."""
    assert [line.split(":")[0] for line in problems(RELAY_BACKOFF_BASE="10", RELAY_BACKOFF_MAX="5")] == [
        "RELAY_BACKOFF_MAX"
    ]


def test_a_mode_without_its_variables_is_a_problem_and_no_error() -> None:
    """Http without a URL: the process starts, the mode is db, and the line names the variable."""
    found = judge(read(JOB_TRIGGER_MODE="http"), None)
    assert found.mode is Mode.DB
    [problem] = found.problems
    assert problem.startswith("WORKER_TRIGGER_URL")


def test_the_override_wins_where_it_can_work() -> None:
    """Set at run time, a mode wins over the environment's; one that cannot work leaves it in force, and says why."""
    both = read(JOB_TRIGGER_MODE="http", WORKER_TRIGGER_URL="http://worker")
    assert judge(both, "none").mode is Mode.NONE
    assert judge(read(WORKER_TRIGGER_URL="http://worker"), "http").mode is Mode.HTTP
    cannot = judge(both, "cloud-tasks")
    assert cannot.mode is Mode.HTTP
    assert len(cannot.problems) == 1


def test_queues_are_shared_out_among_urls() -> None:
    """Queues with the same URL share it, a route to the plain URL is none, and the plain one has all the others."""
    found = read(
        WORKER_TRIGGER_URL="http://plain",
        TRIGGER_ROUTES='{"a": "http://x", "b": "http://x", "c": "http://y", "d": "http://plain"}',
    )
    assert destinations(found) == {
        "http://plain/process-job": Queues(besides=("a", "b", "c")),
        "http://x/process-job": Queues(only=("a", "b")),
        "http://y/process-job": Queues(only=("c",)),
    }
    assert destinations(read(TRIGGER_ROUTES='{"a": "http://x"}')) == {}
