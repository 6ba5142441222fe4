"""`outboxkit enqueue`: a job from the shell."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy import create_engine, pool
from sqlalchemy.exc import DBAPIError, ProgrammingError

from outboxkit import enqueue
from outboxkit.database import sqlalchemy_url
from outboxkit_cli.failures import CommandFailed


def enqueue_one(
    url: str, *, kind: str, payload: Any, queue: str, run_at: datetime | None, unique_key: str | None
) -> UUID:
    """Enqueue one job in a transaction of its own and return its id, once it is committed.

    Raises UsageError for what cannot be enqueued, CommandFailed when the database refuses or is away; nothing is written.
    """
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    try:
        with engine.begin() as connection:
            return enqueue(connection, kind, payload, queue=queue, run_at=run_at, unique_key=unique_key)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except DBAPIError as error:
        hint = " Run `outboxkit migrate` first." if isinstance(error, ProgrammingError) else ""
        raise CommandFailed(f"nothing was enqueued: {str(error.orig).strip()}{hint}") from error


def json_payload(text: str) -> Any:
    """Read the payload argument; anything but JSON is a usage error that shows where it stops being JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="PAYLOAD") from error


def instant(text: str | None) -> datetime | None:
    """Read an ISO 8601 time with a UTC offset; without one it would mean another time on each machine."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no ISO 8601 time", param_hint="--run-at") from error
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no UTC offset; add Z or +02:00", param_hint="--run-at")
    return moment
