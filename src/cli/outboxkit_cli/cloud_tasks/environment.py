"""What makes relay and worker use a local Cloud Tasks. Imports none of Google's libraries."""

from typing import Final

# Where a local server keeps its queue unless it is told otherwise.
PROJECT: Final = "local-project"
LOCATION: Final = "local-area1"
QUEUE: Final = "jobs"


def environment(
    *, tasks: str, issuer: str, project: str = PROJECT, location: str = LOCATION, queue: str = QUEUE
) -> dict[str, str]:
    """Return the variables: tasks carry an identity token for an account, and the worker lets in that account.

    `tasks` is host:port of the server's gRPC side, `issuer` the URL of its HTTP side.
    """
    account = task_account(project)
    return {
        "JOB_TRIGGER_MODE": "cloud-tasks",
        "CLOUD_TASKS_PROJECT": project,
        "CLOUD_TASKS_LOCATION": location,
        "CLOUD_TASKS_QUEUE": queue,
        "CLOUD_TASKS_EMULATOR_HOST": tasks,
        "WORKER_TASK_SERVICE_ACCOUNT": account,
        "WORKER_OIDC_SERVICE_ACCOUNTS": account,
        "WORKER_OIDC_ISSUER": issuer,
        # google-auth asks for tokens at the one, and at the other whether there is anybody to ask.
        "GCE_METADATA_HOST": issuer.removeprefix("http://"),
        "GCE_METADATA_IP": issuer.removeprefix("http://"),
    }


def task_account(project: str) -> str:
    """Return an account for tasks to name; any other does as well, unless `Faults.usable_accounts` is set."""
    return f"tasks@{project}.iam.gserviceaccount.com"


def caller_account(project: str) -> str:
    """Return the account whose tokens the metadata server hands out."""
    return f"caller@{project}.iam.gserviceaccount.com"
