"""The jobs of the worker that the suite is tried on, one kind for each sort of job that it asks for."""

import asyncio
from typing import Any

from outboxkit import Handlers, Job

handlers = Handlers()


@handlers.register("ECHO")
async def echo(payload: dict[str, Any], job: Job) -> dict[str, Any]:  # noqa: ARG001
    """Succeed at once."""
    return payload


@handlers.register("SLEEP")
async def sleep(payload: dict[str, Any], job: Job) -> None:  # noqa: ARG001
    """Take so many seconds."""
    await asyncio.sleep(payload["seconds"])


@handlers.register("FAIL")
async def fail(payload: dict[str, Any], job: Job) -> None:  # noqa: ARG001
    """Fail the attempt."""
    raise RuntimeError("this kind of job fails")
