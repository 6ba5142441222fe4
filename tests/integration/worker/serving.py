"""A worker process for the shutdown tests: `python serving.py PORT`, configured by the environment as any worker."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from outboxkit import Handlers, Job, logs
from outboxkit.application import Application
from outboxkit.settings import read_settings
from outboxkit_cli.http_protocol import HttpProtocol
from outboxkit_cli.serve import open_listener, serve
from outboxkit_worker.app import create_app
from outboxkit_worker.settings import WorkerSettings

handlers = Handlers()


@handlers.register("UNTIL", max_attempts=1)
async def until_file(payload: dict[str, Any], job: Job) -> int:
    """Return once the file that the payload names is there."""
    Path(payload["entered"]).touch()  # noqa: ASYNC240 (as below)
    while not Path(payload["file"]).exists():  # noqa: ASYNC110, ASYNC240 (the test that makes it is another process)
        await asyncio.sleep(0.01)
    return job.attempt


@handlers.register("DEAF", max_attempts=1)
def deaf(payload: dict[str, Any], job: Job) -> None:  # noqa: ARG001 (every handler is given its job)
    """Go on in a thread until the process ends."""
    Path(payload["entered"]).touch()
    while True:
        time.sleep(0.1)


def main() -> None:
    """Serve until a signal, and exit with 0."""
    logs.configure(format="json", level="INFO", stream=sys.stdout)
    settings = read_settings(WorkerSettings, os.environ)
    app = create_app(settings=settings, application=Application(name="serving", handlers=handlers))
    listener = open_listener(host="127.0.0.1", port=int(sys.argv[1]), descriptor=None)
    serve(app, listener=listener, grace=5, protocol=HttpProtocol)


if __name__ == "__main__":
    main()
