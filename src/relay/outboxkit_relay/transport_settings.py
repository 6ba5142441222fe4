"""Where triggers go and how: the part of the relay's settings that decides which modes it can work in."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from outboxkit.modes import Mode
from outboxkit.settings import (
    CHECKED_LATER,
    JobTriggerMode,
    Variable,
    WorkerOidcAudience,
    WorkerTriggerSecret,
    choice,
    default_audience,
    flag,
    variables,
    whole,
)
from outboxkit_relay.routes import Route, read_routes, read_worker_url
from outboxkit_relay.task_names import (
    QueueName,
    read_account,
    read_address,
    read_location,
    read_project,
    read_queue,
)

# What a worker's answer may take to travel, on top of the wait it was asked for. Seconds.
ANSWER_MARGIN: Final = 15

GOOGLE: Final = "cloudtasks.googleapis.com:443"

# What keeps a mode from being in force when it is malformed or missing; everything else stops the process at once.
_NEEDED: Final = {
    Mode.HTTP: ("WORKER_TRIGGER_URL", "TRIGGER_ROUTES", "WORKER_OIDC_AUDIENCE"),
    Mode.CLOUD_TASKS: (
        "WORKER_TRIGGER_URL",
        "TRIGGER_ROUTES",
        "WORKER_OIDC_AUDIENCE",
        "CLOUD_TASKS_PROJECT",
        "CLOUD_TASKS_LOCATION",
        "CLOUD_TASKS_QUEUE",
        "WORKER_TASK_SERVICE_ACCOUNT",
        "CLOUD_TASKS_ENDPOINT",
        "CLOUD_TASKS_EMULATOR_HOST",
    ),
}


class TransportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The transports' settings. A mode without its variables is no error: `missing` says what it lacks."""

    mode: JobTriggerMode = Mode.DB
    url: Annotated[
        str | None,
        Variable(
            "WORKER_TRIGGER_URL",
            "Where triggers are posted, by the relay or by Cloud Tasks; /process-job is added when it has no path.",
            "https://worker.internal",
            read_worker_url,
            check=CHECKED_LATER,
        ),
    ] = None
    secret: WorkerTriggerSecret = None
    routes: Annotated[
        Mapping[str, Route],
        Variable(
            "TRIGGER_ROUTES",
            "Queues with a worker or a Cloud Tasks queue of their own: a JSON object of queue and URL, or of queue and "
            "an object with `url` and `cloudTasksQueue`.",
            '{"reports": "https://reports.internal"}',
            read_routes,
            check=CHECKED_LATER,
        ),
    ] = msgspec.field(default_factory=dict)
    wait: Annotated[
        int,
        Variable(
            "TRIGGER_WAIT_SECONDS",
            "How long the worker is asked to wait for the job's end before it answers (Prefer: wait).",
            "0",
            whole(0, 3600),
        ),
    ] = 0
    oidc_audience: WorkerOidcAudience = None
    trigger_oidc: Annotated[
        str,
        Variable(
            "WORKER_TRIGGER_OIDC",
            "In http mode, for a worker behind IAM: sends an identity token in the header `authorization`, or in "
            "`x-serverless-authorization` for IAM and in Authorization for the worker too; `off` sends none.",
            "authorization",
            choice("off", "authorization", "x-serverless-authorization"),
        ),
    ] = "off"
    project: Annotated[
        str | None,
        Variable(
            "CLOUD_TASKS_PROJECT",
            "The project of the Cloud Tasks queue.",
            "my-project",
            read_project,
            check=CHECKED_LATER,
        ),
    ] = None
    location: Annotated[
        str | None,
        Variable("CLOUD_TASKS_LOCATION", "The queue's location.", "europe-west1", read_location, check=CHECKED_LATER),
    ] = None
    task_queue: Annotated[
        str | None,
        Variable("CLOUD_TASKS_QUEUE", "The queue's name.", "jobs", read_queue, check=CHECKED_LATER),
    ] = None
    task_account: Annotated[
        str | None,
        Variable(
            "WORKER_TASK_SERVICE_ACCOUNT",
            "The service account as which Cloud Tasks calls the worker. Without it tasks carry the shared secret.",
            "caller@my-project.iam.gserviceaccount.com",
            read_account,
            check=CHECKED_LATER,
        ),
    ] = None
    dispatch_deadline: Annotated[
        int,
        Variable(
            "CLOUD_TASKS_DISPATCH_DEADLINE",
            "How long Cloud Tasks waits for the worker's answer, in seconds; the worker answers a little earlier.",
            "600",
            whole(15, 1800),
        ),
    ] = 600
    task_endpoint: Annotated[
        str,
        Variable(
            "CLOUD_TASKS_ENDPOINT",
            "Where the API of Cloud Tasks is reached; a private endpoint, for instance.",
            GOOGLE,
            read_address,
            check=CHECKED_LATER,
        ),
    ] = GOOGLE
    emulator: Annotated[
        str | None,
        Variable(
            "CLOUD_TASKS_EMULATOR_HOST",
            "A local server in place of Cloud Tasks: spoken to without TLS and without credentials.",
            "127.0.0.1:8123",
            read_address,
            check=CHECKED_LATER,
        ),
    ] = None
    task_batch: Annotated[
        int,
        Variable(
            "CLOUD_TASKS_BATCH_SIZE",
            "Tasks created in one call at most; with more than 1 a call is a long-running operation of Google's.",
            "100",
            whole(1, 100),
        ),
    ] = 1
    ramp: Annotated[
        bool,
        Variable(
            "CLOUD_TASKS_RAMP",
            "Lets each relay begin with 500 tasks a second for a queue and grow by half every five minutes at most.",
            "yes",
            flag,
        ),
    ] = True
    malformed: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Problems with variables that are checked later, by variable name."""

    @property
    def queue_name(self) -> QueueName | None:
        """The Cloud Tasks queue of everything that has no route; None while it is not configured."""
        if self.project is None or self.location is None or self.task_queue is None:
            return None
        return QueueName(self.project, self.location, self.task_queue)

    @property
    def task_wait(self) -> int:
        """Seconds that a worker called by Cloud Tasks may wait for its job: just under the dispatch deadline."""
        return self.dispatch_deadline - min(ANSWER_MARGIN, max(2, self.dispatch_deadline // 10))

    def audience(self, url: str) -> str:
        """The audience of identity tokens for the worker at this URL."""
        return self.oidc_audience or default_audience(url)

    @property
    def _urls(self) -> list[tuple[str, str]]:
        """Every worker's URL, after the name of the variable that has it."""
        routed = [("TRIGGER_ROUTES", route.url) for route in self.routes.values()]
        return [(name, url) for name, url in [("WORKER_TRIGGER_URL", self.url), *routed] if url is not None]

    def missing(self, mode: Mode) -> list[str]:
        """What keeps this relay from working in `mode`, a line for each variable; empty when nothing does."""
        found = [line for name, line in self.malformed.items() if name in _NEEDED.get(mode, ())]
        if mode is Mode.HTTP and self.trigger_oidc != "off" and not _is_installed("google.auth"):
            found.append(
                "google-auth is not installed, and WORKER_TRIGGER_OIDC needs it: pip install 'outboxkit[cloud-tasks]'"
            )
        if mode is Mode.CLOUD_TASKS and not _is_installed("google.cloud.tasks_v2"):
            found.append("google-cloud-tasks is not installed: pip install 'outboxkit[cloud-tasks]'")
        if mode is Mode.CLOUD_TASKS and self.task_account is not None and self.emulator is None:
            found += [
                f"{name}: {url} is not https, which Cloud Tasks demands of tasks with an identity "
                "(WORKER_TASK_SERVICE_ACCOUNT). For example https://worker.internal"
                for name, url in self._urls
                if not url.startswith("https:")
            ]
        wanted = {
            Mode.HTTP: {"WORKER_TRIGGER_URL": self.url},
            Mode.CLOUD_TASKS: {
                "WORKER_TRIGGER_URL": self.url,
                "CLOUD_TASKS_PROJECT": self.project,
                "CLOUD_TASKS_LOCATION": self.location,
                "CLOUD_TASKS_QUEUE": self.task_queue,
            },
        }.get(mode, {})
        known = {variable.name: variable for variable in variables(type(self)).values()}
        for name, value in wanted.items():
            if value is None and name not in self.malformed:
                found.append(
                    f"{name} is not set, and {mode} needs it: {known[name].help} For example {known[name].example}"
                )
        return found

    def warnings(self) -> list[str]:
        """What is allowed, and probably not what was meant."""
        found = []
        if self.mode is Mode.HTTP and self.secret is None and self.trigger_oidc == "off":
            found.append("WORKER_TRIGGER_SECRET is not set: triggers are sent without credentials")
        if self.mode is Mode.HTTP and self.trigger_oidc != "off":
            found += [
                f"{name}: {url} is not https: the identity token can be read on the way, and used by whoever does"
                for name, url in self._urls
                if url.startswith("http:")
            ]
        if self.mode is Mode.CLOUD_TASKS and self.secret is None and self.task_account is None:
            found.append(
                "neither WORKER_TASK_SERVICE_ACCOUNT nor WORKER_TRIGGER_SECRET is set: tasks carry no credentials"
            )
        return found


def _is_installed(module: str) -> bool:
    """Whether a module of the extra cloud-tasks is there; imports nothing big."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False
