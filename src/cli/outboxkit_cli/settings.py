"""What the command line itself reads from the environment: the role, the application, where to listen."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from outboxkit.logs import Format
from outboxkit.settings import (
    DEFAULT_PORT,
    DatabaseUrl,
    Port,
    SettingsError,
    ShutdownGrace,
    Variable,
    choice,
    read_settings,
)

A = TypeVar("A", bound=msgspec.Struct)
B = TypeVar("B", bound=msgspec.Struct)

ROLES = ("web", "worker", "relay")


def level(text: str) -> str:
    """Read a log level, in any case; the value is as the logging module spells it."""
    return choice("debug", "info", "warning", "error", "critical")(text).upper()


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every long-running process reads, whatever its role."""

    app: Annotated[
        str | None,
        Variable("OUTBOXKIT_APP", "The module with `handlers` (and `routes`, `lifespan`).", "myapp.jobs"),
    ] = None
    log_format: Annotated[
        Format,
        Variable(
            "LOG_FORMAT",
            "json, pretty, or auto: pretty in a terminal.",
            "json",
            choice("json", "pretty", "auto"),
        ),
    ] = "auto"
    log_level: Annotated[str, Variable("LOG_LEVEL", "The least severity that is logged.", "info", level)] = "INFO"


class ServingSettings(ProcessSettings, frozen=True, kw_only=True):
    """What web and worker read besides: where they listen, and how long they take to stop."""

    host: Annotated[str, Variable("HOST", "The address that is listened on.", "127.0.0.1")] = "0.0.0.0"  # noqa: S104 (a container's)
    port: Port = DEFAULT_PORT
    grace: ShutdownGrace = 8.0


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What migrate and enqueue read."""

    database_url: DatabaseUrl


class StartSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which role `outboxkit start` starts."""

    role: Annotated[
        str, Variable("SERVICE_MODE", "The role of this process: web, worker or relay.", "web", choice(*ROLES))
    ]


def read_both(first: type[A], second: type[B], environ: Mapping[str, str]) -> tuple[A, B]:
    """Return the settings of both; SettingsError has the problems of both, each once."""
    problems: list[str] = []
    found: list[Any] = []
    for settings in (first, second):
        try:
            found.append(read_settings(settings, environ))
        except SettingsError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise SettingsError(problems)
    return found[0], found[1]
