"""Tools of the tests in cloud-tasks mode: a local Cloud Tasks in a hurry, and a relay that uses it."""

from typing import Any

from databases import Database
from outboxkit_cli.cloud_tasks.rates import RateLimits
from outboxkit_cli.cloud_tasks.retries import RetryConfig
from outboxkit_cli.cloud_tasks.server import CloudTasksServer, ServerOptions
from outboxkit_cli.cloud_tasks.validation import Strictness
from outboxkit_relay.settings import RelaySettings
from relaying import settings

PROJECT, LOCATION, QUEUE = "test-project", "europe-west1", "jobs"
ACCOUNT = "caller@test-project.iam.gserviceaccount.com"


def google_options(**changes: Any) -> ServerOptions:
    """A server that tries again at once."""
    values: dict[str, Any] = {
        "project": PROJECT,
        "location": LOCATION,
        "queues": (QUEUE,),
        "retries": RetryConfig(min_backoff=0.01, max_backoff=0.05),
        "limits": RateLimits(),
        "strictness": Strictness(),
        **changes,
    }
    return ServerOptions(**values)


def task_settings(database: Database | str, google: CloudTasksServer | str, url: str, **environ: str) -> RelaySettings:
    """The settings of a quick relay in cloud-tasks mode; tasks carry an identity unless the account is emptied."""
    values = {
        "JOB_TRIGGER_MODE": "cloud-tasks",
        "CLOUD_TASKS_EMULATOR_HOST": google if isinstance(google, str) else google.address,
        "CLOUD_TASKS_PROJECT": PROJECT,
        "CLOUD_TASKS_LOCATION": LOCATION,
        "CLOUD_TASKS_QUEUE": QUEUE,
        "WORKER_TASK_SERVICE_ACCOUNT": ACCOUNT,
        **environ,
    }
    return settings(database, url, **values)


def created(google: CloudTasksServer) -> int:
    """How many tasks were ever made in the queue `jobs`: those that are there, and the names of those that are gone."""
    return len(google.tasks(QUEUE)) + len(google.queue(QUEUE)._tombstones._until)
