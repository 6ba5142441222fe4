"""Signs of life of relays and workers, for readiness and for people."""

from __future__ import annotations

import os
import socket
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID, uuid4

import msgspec

from outboxkit import queries

if TYPE_CHECKING:
    import psycopg

    Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]


def _version() -> str:
    try:
        return version("outboxkit")
    except PackageNotFoundError:
        return "unknown"


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """This process as others see it.

    The id is random for each start: under a name that a restarted pod keeps, the new process would pass for the holder of
    the old one's leases.
    """

    role: str
    id: UUID = msgspec.field(default_factory=uuid4)
    host: str = msgspec.field(default_factory=socket.gethostname)
    pid: int = msgspec.field(default_factory=os.getpid)
    version: str = msgspec.field(default_factory=_version)


async def record(connection: Connection, process: Process, details: dict[str, Any]) -> None:
    """Write a sign of life, with what a person would like to know about the process."""
    values = {name: getattr(process, name) for name in ("id", "role", "host", "pid", "version")}
    await connection.execute(
        queries.load("record_process"), {**values, "details": msgspec.json.encode(details).decode()}
    )


async def forget(connection: Connection, process: Process) -> None:
    """Say an orderly goodbye."""
    await connection.execute(queries.load("forget_process"), {"id": process.id})
