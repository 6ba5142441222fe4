"""What the relay reads from the environment, and what it says about it."""

import pytest

from outboxkit.modes import Mode
from outboxkit.settings import SettingsError, read_settings
from outboxkit_relay.mode import InForce, judge
from outboxkit_relay.routes import Route, destinations
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


def test_http_without_a_secret_is_warned_about() -> None:
    """It works, for a worker without one."""
    [warning] = read(JOB_TRIGGER_MODE="http", WORKER_TRIGGER_URL="http://worker").warnings()
    assert "WORKER_TRIGGER_SECRET" in warning


def test_every_bad_value_is_reported_at_once() -> None:
    """A database that is none, numbers out of bounds: one line each, by the variable's name."""
    found = problems(DATABASE_URL="mysql://db/app", RELAY_CONCURRENCY="none", RELAY_RATE_LIMIT="0")
    assert {line.split(":")[0] for line in found} == {"DATABASE_URL", "RELAY_CONCURRENCY", "RELAY_RATE_LIMIT"}


def test_an_unknown_mode_is_a_problem_and_no_error() -> None:
    """Work flows in db mode, and the line names the variable, what it can be, and an example."""
    found = judge(read(JOB_TRIGGER_MODE="carrier-pigeon"), None)
    assert found.mode is Mode.DB
    [problem] = found.problems
    assert problem.startswith("JOB_TRIGGER_MODE: 'carrier-pigeon' is none of db, http, cloud-tasks, none")
    assert "For example http" in problem
    assert judge(read(JOB_TRIGGER_MODE="carrier-pigeon"), "db").problems == [], "a mode set at run time is what counts"


TASKS = {
    "JOB_TRIGGER_MODE": "cloud-tasks",
    "WORKER_TRIGGER_URL": "https://worker.example",
    "WORKER_TASK_SERVICE_ACCOUNT": "caller@my-project.iam.gserviceaccount.com",
    "CLOUD_TASKS_PROJECT": "my-project",
    "CLOUD_TASKS_LOCATION": "europe-west1",
    "CLOUD_TASKS_QUEUE": "jobs",
}


def test_cloud_tasks_configured() -> None:
    """With project, location, queue and URL the mode is in force."""
    assert judge(read(**TASKS), None) == InForce(Mode.CLOUD_TASKS, [])


@pytest.mark.parametrize(
    "name", ["WORKER_TRIGGER_URL", "CLOUD_TASKS_PROJECT", "CLOUD_TASKS_LOCATION", "CLOUD_TASKS_QUEUE"]
)
def test_a_variable_that_cloud_tasks_lacks(name: str) -> None:
    """One line that names the variable and shows an example; the mode is db."""
    found = judge(read(**{**TASKS, name: ""}), None)
    assert found.mode is Mode.DB
    [problem] = found.problems
    assert problem.startswith(f"{name} is not set, and cloud-tasks needs it")
    assert "For example" in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_TRIGGER_URL", "worker.example/process-job"),
        ("WORKER_TRIGGER_URL", "ftp://worker.example"),
        ("WORKER_TRIGGER_URL", "https:///process-job"),
        ("WORKER_TRIGGER_URL", "http://worker.example/process-job"),
        ("TRIGGER_ROUTES", '{"reports": "http://worker.example"}'),
        ("WORKER_TRIGGER_URL", "https://worker.example/hook"),
        ("WORKER_TRIGGER_URL", "https://worker.example/process-job/"),
        ("WORKER_TRIGGER_URL", "https://worker.example/process-job#x"),
        ("TRIGGER_ROUTES", "reports"),
        ("TRIGGER_ROUTES", '{"reports": "worker.example"}'),
        ("TRIGGER_ROUTES", '{"reports": {"queue": "x"}}'),
        ("TRIGGER_ROUTES", '{"reports": {"cloudTasksQueue": "a/b"}}'),
        ("CLOUD_TASKS_PROJECT", "My Project"),
        ("CLOUD_TASKS_PROJECT", "123456789"),
        ("CLOUD_TASKS_LOCATION", "europe"),
        ("CLOUD_TASKS_QUEUE", "projects/p/locations/l/queues/jobs"),
        ("CLOUD_TASKS_QUEUE", "jobs_and_more"),
        ("WORKER_TASK_SERVICE_ACCOUNT", "caller"),
        ("CLOUD_TASKS_ENDPOINT", "https://cloudtasks.googleapis.com"),
        ("CLOUD_TASKS_EMULATOR_HOST", "localhost"),
        ("CLOUD_TASKS_EMULATOR_HOST", "localhost:99999"),
    ],
)
def test_a_malformed_variable_of_a_transport(name: str, value: str) -> None:
    """One line that names the variable and shows an example; the process lives, and the mode is db."""
    found = judge(read(**{**TASKS, name: value}), None)
    assert found.mode is Mode.DB
    [problem] = found.problems
    assert problem.startswith(f"{name}: ")
    assert "For example" in problem


def test_a_malformed_variable_of_another_mode_does_not_matter() -> None:
    """A bad Cloud Tasks queue is nothing to a relay in http mode."""
    found = judge(read(**{**TASKS, "CLOUD_TASKS_QUEUE": "a/b", "JOB_TRIGGER_MODE": "http"}), None)
    assert found == InForce(Mode.HTTP, [])


@pytest.mark.parametrize("deadline", [15, 20, 600, 1800])
def test_a_worker_answers_before_cloud_tasks_gives_up(deadline: int) -> None:
    """The wait that tasks ask for is just under the dispatch deadline."""
    wait = read(CLOUD_TASKS_DISPATCH_DEADLINE=str(deadline)).task_wait
    assert deadline - 15 <= wait <= deadline - 2


def test_the_audience_is_scheme_and_host_of_the_worker() -> None:
    """Which is what Cloud Run's IAM wants; WORKER_OIDC_AUDIENCE is used in its place."""
    assert read().audience("https://worker.example:8443/base/process-job?x=1") == "https://worker.example:8443"
    assert read(WORKER_OIDC_AUDIENCE="custom").audience("https://worker.example") == "custom"


def test_no_secret_shows_in_a_problem_or_a_repr() -> None:
    """Neither the database's password nor the shared secret, whatever else is wrong."""
    secret = {"WORKER_TRIGGER_SECRET": "hush"}
    text = "\n".join(problems(RELAY_CONCURRENCY="x", **secret))
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
    assert [line.split(" is not set")[0].rpartition(" ")[2] for line in cannot.problems] == [
        "CLOUD_TASKS_PROJECT",
        "CLOUD_TASKS_LOCATION",
        "CLOUD_TASKS_QUEUE",
    ]


def test_queues_are_shared_out_among_urls() -> None:
    """Queues with the same URL share it, a route to the plain URL is none, and the plain one has all the others."""
    found = read(
        WORKER_TRIGGER_URL="http://plain",
        TRIGGER_ROUTES='{"a": "http://x", "b": "http://x", "c": "http://y", "d": "http://plain"}',
    )
    assert destinations("http://plain/process-job", found.routes, lambda route: route.url) == {
        "http://plain/process-job": Queues(besides=("a", "b", "c")),
        "http://x/process-job": Queues(only=("a", "b")),
        "http://y/process-job": Queues(only=("c",)),
    }


def test_a_route_may_name_a_cloud_tasks_queue() -> None:
    """An object has a URL, a Cloud Tasks queue, or both."""
    routes = read(
        TRIGGER_ROUTES='{"a": {"cloudTasksQueue": "slow"}, "b": {"url": "http://x", "cloudTasksQueue": "q"}}'
    ).routes
    assert routes == {
        "a": Route(cloud_tasks_queue="slow"),
        "b": Route(url="http://x/process-job", cloud_tasks_queue="q"),
    }
