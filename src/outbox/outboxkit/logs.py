"""Structured logs: JSON lines as Cloud Logging reads them, or one readable line each for a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any, Final, Literal
from uuid import UUID

import msgspec

from outboxkit import traces

Format = Literal["json", "pretty", "auto"]

# What every line about a job carries; set by `job_context`, or given with `extra=`.
FIELDS: Final = ("job_id", "attempt", "traceparent")

_context: ContextVar[dict[str, Any]] = ContextVar("outboxkit_log_context")

# https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#LogSeverity
_SEVERITY = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


@contextmanager
def job_context(
    *, job_id: UUID | None = None, attempt: int | None = None, traceparent: str | None = None
) -> Iterator[None]:
    """Every line logged inside, in this task and those it starts, is marked as being about this job."""
    given = {"job_id": job_id, "attempt": attempt, "traceparent": traceparent}
    token = _context.set({name: value for name, value in given.items() if value is not None})
    try:
        yield
    finally:
        _context.reset(token)


def configure(*, format: Format = "auto", level: str = "INFO", stream: IO[str]) -> None:  # noqa: A002 (the word)
    """Send every log line to `stream`; `auto` is pretty when that is a terminal, else JSON."""
    pretty = format == "pretty" or (format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Pretty() if pretty else _Json())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    extra = {name: value for name, value in record.__dict__.items() if name not in _KNOWN}
    return {**_context.get({}), **extra}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "severity": _SEVERITY.get(record.levelno, "DEFAULT"),
            "message": record.getMessage(),
            "logger": record.name,
        }
        fields = _fields(record)
        line.update(fields)
        if traceparent := traces.parse(str(fields.get("traceparent"))):
            # Cloud Logging groups by trace under this name.
            line["logging.googleapis.com/trace"] = traceparent.split("-")[1]
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json(line)


def _json(line: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):
        # A line is never lost: what JSON cannot hold (a lone surrogate, a strange key) is written as text with escapes.
        plain = {_escaped(name): _escaped(value) for name, value in line.items()}
        return msgspec.json.encode(plain).decode()


def _escaped(value: object) -> str:
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return text.encode("ascii", "backslashreplace").decode()


class _Pretty(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = f"{time} {record.levelname:<7} {record.getMessage()}" + (f"  {fields}" if fields else "")
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line
