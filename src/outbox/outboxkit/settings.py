"""Configuration: environment variables only, read once into a frozen Struct per role.

A field's annotation carries a `Variable`: its name, what it does, an example, and how its text is read. All problems are
reported together, by variable name. The reference in the docs is made from the same declarations.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from outboxkit.database import conninfo, sqlalchemy_url
from outboxkit.modes import Mode

S = TypeVar("S", bound=msgspec.Struct)


class SettingsError(Exception):
    """One or more settings are wrong; `problems` has a line for each, starting with the variable's name."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Secret:
    """A value that never shows: not in logs, errors or repr. Compared in constant time."""

    __slots__ = ("_encoded", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        # The environment's own bytes, also where they are no UTF-8.
        self._encoded = value.encode("utf-8", "surrogateescape")

    def reveal(self) -> str:
        """The value itself, for the one place that needs it."""
        return self._value

    def matches(self, candidate: bytes) -> bool:
        """Whether `candidate` is this secret (UTF-8); takes the same time wherever they differ."""
        return hmac.compare_digest(self._encoded, candidate)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._encoded)

    def __hash__(self) -> int:
        return hash(Secret)


CHECKED_LATER: Final = "later"


class Variable(msgspec.Struct, frozen=True):
    """One environment variable. `read` turns its text into the value, or raises ValueError saying what was wanted.

    A malformed value stops the process, except where `check` is CHECKED_LATER and the Struct has a field `malformed`: then
    the field keeps its default, and the problem stands there by the variable's name. Work can flow without it.
    """

    name: str
    help: str
    example: str
    read: Callable[[str], Any] = str
    check: str = "now"


def read_settings(settings: type[S], environ: Mapping[str, str]) -> S:
    """The settings of one role; a variable that is empty counts as not set.

    Raises SettingsError with every problem found, never the first alone, and never a secret's value.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    malformed: dict[str, str] = {}
    required = {f.encode_name for f in msgspec.structs.fields(settings) if f.required}
    forgiving = "malformed" in settings.__struct_fields__
    for field, variable in variables(settings).items():
        text = environ.get(variable.name, "").strip()
        if not text:
            if field in required:
                problems.append(f"{variable.name} is not set: {variable.help} For example {variable.example}")
            continue
        try:
            values[field] = variable.read(text)
        except ValueError as error:
            problem = f"{variable.name}: {error}. For example {variable.example}"
            if forgiving and variable.check == CHECKED_LATER:
                malformed[variable.name] = problem
            else:
                problems.append(problem)
    if malformed:
        values["malformed"] = malformed
    if problems:
        raise SettingsError(problems)
    try:
        return settings(**values)
    except ValueError as error:  # a __post_init__ that found two values at odds
        raise SettingsError(str(error).splitlines()) from None


def variables(settings: type[msgspec.Struct]) -> dict[str, Variable]:
    """The variables of a settings Struct, by field name."""
    found: dict[str, Variable] = {}
    for field, hint in get_type_hints(settings, include_extras=True).items():
        for extra in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
            if isinstance(extra, Variable):
                found[field] = extra
    return found


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if not minimum <= number <= maximum:
            raise ValueError(f"{number} is not between {minimum} and {maximum}")
        return number

    return read


def seconds(minimum: float, maximum: float) -> Callable[[str], float]:
    """Reads a duration in seconds within bounds."""
    return _duration(minimum, maximum, 1.0, "seconds")


def milliseconds(minimum: float, maximum: float) -> Callable[[str], float]:
    """Reads a duration given in milliseconds; the value is in seconds. The bounds are milliseconds."""
    return _duration(minimum, maximum, 1000.0, "milliseconds")


def _duration(minimum: float, maximum: float, per_second: float, unit: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number of {unit}") from None
        if not minimum <= number <= maximum:
            raise ValueError(f"{text} is not between {minimum:g} and {maximum:g} {unit}")
        return number / per_second

    return read


def days(minimum: float, maximum: float) -> Callable[[str], timedelta]:
    """Reads a duration in days within bounds."""
    read_days = _duration(minimum, maximum, 1.0, "days")
    return lambda text: timedelta(days=read_days(text))


def choice(*choices: str) -> Callable[[str], str]:
    """Reads one of a few words, in any case."""

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text.lower()

    return read


def mode(text: str) -> Mode:
    """Reads a trigger mode, in any case; `cloud_tasks` is understood too."""
    return Mode(choice(*Mode)(text.replace("_", "-")))


def flag(text: str) -> bool:
    """Reads yes or no in their usual spellings."""
    word = choice("1", "0", "true", "false", "yes", "no", "on", "off")(text)
    return word in {"1", "true", "yes", "on"}


def secret(text: str) -> Secret:
    """Reads a secret: any characters that an HTTP header can carry."""
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("the secret holds a control character, which no HTTP header can carry")
    return Secret(text)


def database_url(text: str) -> Secret:
    """Reads a Postgres URL in any spelling; a Secret, because it may hold a password."""
    sqlalchemy_url(text)
    try:
        from psycopg import (
            ProgrammingError,
        )  # of the roles' extras; a bare producer reads no settings
        from psycopg import (
            conninfo as libpq,
        )
    except ModuleNotFoundError:
        return Secret(text)
    try:
        libpq.conninfo_to_dict(conninfo(text))
    except ProgrammingError:
        # Its text may quote the password.
        raise ValueError(
            "libpq cannot read it: look for characters that must be %-encoded, such as @ : / [ ]"
        ) from None
    return Secret(text)


def http_url(text: str) -> str:
    """Reads an absolute http or https URL."""
    parts = urlsplit(text)
    # First, so that no later complaint shows them.
    if "@" in parts.netloc or (not parts.netloc and "@" in text):
        raise ValueError("the URL holds credentials; use WORKER_TRIGGER_SECRET instead")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is no absolute http(s) URL")
    _ = parts.port  # raises ValueError when out of range
    return text


Port = Annotated[int, Variable("PORT", "The port that is listened on.", "8080", whole(0, 65535))]
DatabaseUrl = Annotated[
    Secret,
    Variable(
        "DATABASE_URL",
        "The Postgres database.",
        "postgresql://user:password@db.internal:5432/app",
        database_url,
    ),
]
JobTriggerMode = Annotated[
    Mode,
    Variable(
        "JOB_TRIGGER_MODE",
        "What happens to triggers: db, http, cloud-tasks or none.",
        "http",
        mode,
        check=CHECKED_LATER,
    ),
]
DEFAULT_PORT: Final = 8080

# What several roles read; each declared once.
DatabaseListenUrl = Annotated[
    Secret | None,
    Variable(
        "DATABASE_LISTEN_URL",
        "A direct connection for LISTEN, where DATABASE_URL leads to a transaction pooler.",
        "postgresql://user:password@db.internal:5432/app",
        database_url,
    ),
]
WorkerTriggerSecret = Annotated[
    Secret | None,
    Variable(
        "WORKER_TRIGGER_SECRET",
        "The secret that relay and worker share, sent as x-worker-trigger.",
        "a long random text",
        secret,
    ),
]
ShutdownGrace = Annotated[
    float,
    Variable(
        "SHUTDOWN_GRACE_SECONDS",
        "How long work under way may go on after SIGTERM; Cloud Run kills after 10.",
        "8",
        seconds(0, 3600),
    ),
]
SweepInterval = Annotated[
    float,
    Variable(
        "SWEEP_INTERVAL_SECONDS", "How often expired leases and stranded jobs are looked for.", "5", seconds(0.1, 3600)
    ),
]
StrandedAfter = Annotated[
    float,
    Variable(
        "STRANDED_AFTER_SECONDS",
        "How long a trigger given to Cloud Tasks may take before it is sent again; doubles each time.",
        "300",
        seconds(1, 2592000),
    ),
]
StrandedMax = Annotated[
    int,
    Variable(
        "STRANDED_MAX", "How often a stranded job is triggered again before its dead letter.", "5", whole(0, 1000)
    ),
]
RetentionDays = Annotated[
    timedelta,
    Variable("RETENTION_DAYS", "How long jobs that have ended are kept.", "14", days(0.01, 36500)),
]


def audience(text: str) -> str:
    """Reads the audience of an identity token: a URL as a rule, and any other name without blanks."""
    if not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} holds a blank or what does not print")
    return text


def default_audience(url: str) -> str:
    """The audience of a worker at this URL where none is set: scheme and host, as Cloud Run names its services."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    usual = {"http": ":80", "https": ":443"}.get(scheme, "")
    return f"{scheme}://{parts.netloc.lower().removesuffix(usual)}"


WorkerOidcAudience = Annotated[
    str | None,
    Variable(
        "WORKER_OIDC_AUDIENCE",
        "The audience of the identity tokens that triggers carry; by default scheme and host of WORKER_TRIGGER_URL.",
        "https://worker-abcdefghij-ew.a.run.app",
        audience,
    ),
]
