"""Cloud Tasks under attack: outboxkit's local one, always on the same ports and with the same key, as Google's would be.

Its tasks, and the names of those that are gone, end with it. What it does is noted in a file, a line each, for
`chaos.console`: the kit's server is wrapped from outside, in this process alone.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from time import time
from typing import Any

from cryptography.hazmat.primitives import serialization

from outboxkit_cli.cloud_tasks.api import Api
from outboxkit_cli.cloud_tasks.dispatcher import Dispatcher
from outboxkit_cli.cloud_tasks.queues import TaskQueue
from outboxkit_cli.cloud_tasks.retries import RetryConfig
from outboxkit_cli.cloud_tasks.server import CloudTasksServer, ServerOptions
from outboxkit_cli.cloud_tasks.tasks import Answer, Attempt, Task
from outboxkit_cli.cloud_tasks.tokens import Signer, SigningKey
from outboxkit_cli.interruption import cancelled_by_signals, raise_keyboard_interrupt

GRPC_PORT, HTTP_PORT, FOLDER = "CHAOS_GOOGLE_GRPC_PORT", "CHAOS_GOOGLE_HTTP_PORT", "CHAOS_GOOGLE_FOLDER"
PROJECT, LOCATION, QUEUE = "chaos-project", "europe-west1", "jobs"
ACCOUNT = "tasks@chaos-project.iam.gserviceaccount.com"
# Tries for ever, as far as a run is concerned, and soon again.
RETRIES = RetryConfig(max_attempts=100, min_backoff=0.1, max_backoff=1.0)


def serve() -> None:
    """Serve until a signal says otherwise."""
    raise_keyboard_interrupt()
    folder = Path(os.environ[FOLDER])
    _note_everything(folder / "notes")
    with suppress(KeyboardInterrupt):  # it may come before the loop does
        asyncio.run(_serve(folder / "key.pem"))


async def _serve(key: Path) -> None:
    options = ServerOptions(
        port=int(os.environ[GRPC_PORT]),
        http_port=int(os.environ[HTTP_PORT]),
        project=PROJECT,
        location=LOCATION,
        queues=(QUEUE,),
        retries=RETRIES,
    )
    with cancelled_by_signals():
        try:
            server = CloudTasksServer(options)
            server.signer._keys = [_kept(key)]
            async with server:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass  # the signal that is meant to end this


def _kept(file: Path) -> SigningKey:
    """The key in the file, made the first time. One that it was rotated to ends with the process."""
    if file.exists():
        return SigningKey("kept", serialization.load_pem_private_key(file.read_bytes(), password=None))  # type: ignore[arg-type] # RSA
    key = SigningKey("kept", SigningKey.generate().private)
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = file.with_suffix(".draft")  # it may be killed while it writes
    draft.write_bytes(pem)
    draft.rename(file)
    return key


def _note_everything(notes: Path) -> None:
    """Note what becomes of tasks and of calls."""

    def note(what: str) -> None:
        with notes.open("a") as file:
            file.write(f"{what}\n")

    rotations: list[float] = []

    def answered(task: Task, attempt: Attempt, answer: Answer) -> None:
        note(f"answered {answer.status}")
        if answer.success and rotations and attempt.dispatched > rotations[-1]:
            note("accepted with a new key")
        if task.not_before:
            note("late one answered")

    _wrap(TaskQueue, "add", lambda _, task, __: note("lost" if task.lost else "made"))
    _wrap(TaskQueue, "delete", lambda *_: note("vanished"))
    _wrap(TaskQueue, "settle", lambda _, task, attempt, answer, __: answered(task, attempt, answer))
    _wrap(TaskQueue, "_given_up", lambda given_up, *_: note("given up") if given_up else None)
    _wrap(Dispatcher, "_again", lambda *_: note("dispatched again"))
    _wrap(Api, "get_task", lambda *_: note("found"))
    _wrap(Signer, "rotate", lambda *_: rotations.append(time()))


def _wrap(owner: type, name: str, then: Callable[..., object]) -> None:
    """Call `then` with the result and the arguments of every call that raised nothing."""
    function: Callable[..., Any] = getattr(owner, name)

    @wraps(function)
    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        result = function(self, *arguments, **options)
        then(result, *arguments)
        return result

    setattr(owner, name, wrapped)
