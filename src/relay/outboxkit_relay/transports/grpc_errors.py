"""What an error of the Cloud Tasks API means for a trigger: the table of the worker protocol, for gRPC."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from outboxkit.clipping import clip
from outboxkit_contracts.actions import Action, Verdict, no_answer
from outboxkit_relay.credentials import CredentialsError

if TYPE_CHECKING:
    from outboxkit_relay.transports.cloud_tasks import TaskPattern

log = logging.getLogger(__name__)

_CHARACTERS: Final = 400

# How gRPC reports that credentials.channel's plugin has failed; what comes after is the plugin's own words.
_NO_TOKEN: Final = "Getting metadata from plugin failed with error: "  # noqa: S105 (a message)

# Seconds to leave a queue alone that says it has had enough; the window of deliveries is halved besides.
_SLOWER: Final = 1


def judge_error(error: Exception, pattern: TaskPattern) -> Verdict:
    """The verdict on a call that failed. What Google says about it is quoted, without the secret.

    Whatever is not plainly about this one task is a fault of the endpoint: the row stays, and nothing counts against it.
    """
    code = getattr(getattr(error, "grpc_status_code", None), "name", None)
    if isinstance(error, CredentialsError):
        return no_answer(str(error))
    if code is None:
        log.error("a task was not created", exc_info=error)
        return no_answer(f"the task was not created: {type(error).__name__}")
    said = _said(error, pattern)
    if code == "UNAVAILABLE" and said.startswith(_NO_TOKEN):
        return no_answer(f"the relay has no token for Cloud Tasks: {said.removeprefix(_NO_TOKEN)}")
    if code == "INVALID_ARGUMENT":
        return Verdict(Action.DEAD_LETTER, "Cloud Tasks refused the task as it is (INVALID_ARGUMENT)", message=said)
    if code == "RESOURCE_EXHAUSTED":
        return Verdict(
            Action.SLOW_DOWN, f"the quota of {pattern.queue.path} is used up", retry_after=_SLOWER, message=said
        )
    explain = _FAULTS.get(code)
    reason = explain(pattern) if explain is not None else f"Cloud Tasks answered {code}"
    return Verdict(Action.ENDPOINT_FAULT, reason, message=said)


def _said(error: Exception, pattern: TaskPattern) -> str:
    text = str(getattr(error, "message", error))
    if pattern.secret is not None:
        text = text.replace(pattern.secret.reveal(), "***")
    return clip(" ".join(text.split()))[:_CHARACTERS]


def _no_queue(pattern: TaskPattern) -> str:
    queue = pattern.queue
    return (
        f"there is no queue {queue.path}: check CLOUD_TASKS_PROJECT, CLOUD_TASKS_LOCATION and CLOUD_TASKS_QUEUE, or run "
        f"`gcloud tasks queues create {queue.queue} --location={queue.location} --project={queue.project}`"
    )


def _forbidden(pattern: TaskPattern) -> str:
    roles = f"roles/cloudtasks.enqueuer on {pattern.queue.path}"
    if pattern.account is not None:
        roles += f", and roles/iam.serviceAccountUser on {pattern.account}"
    return f"the relay's account may not create tasks: grant it {roles}, and enable the API cloudtasks.googleapis.com"


def _not_ready(pattern: TaskPattern) -> str:
    return (
        f"{pattern.queue.path} takes no tasks: resume or enable the queue, or enable the API cloudtasks.googleapis.com "
        f"in {pattern.queue.project}"
    )


def _unauthenticated(_: TaskPattern) -> str:
    return (
        "Cloud Tasks does not accept the relay's credentials: check the service account that it runs as, or "
        "GOOGLE_APPLICATION_CREDENTIALS"
    )


def _unreachable(_: TaskPattern) -> str:
    return "Cloud Tasks cannot be reached: check the network, CLOUD_TASKS_ENDPOINT and CLOUD_TASKS_EMULATOR_HOST"


_FAULTS: Final[dict[str, Callable[[TaskPattern], str]]] = {
    "NOT_FOUND": _no_queue,
    "PERMISSION_DENIED": _forbidden,
    "FAILED_PRECONDITION": _not_ready,
    "UNAUTHENTICATED": _unauthenticated,
    "UNAVAILABLE": _unreachable,
}
