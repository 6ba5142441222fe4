"""Log lines: JSON for machines, one readable line for people, and never a lost line."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from outboxkit.logs import configure, job_context

JOB = UUID(int=7)
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
log = logging.getLogger("outboxkit.test")


@pytest.fixture
def root() -> Iterator[None]:
    """Put the root logger back as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def logged(root: None) -> Callable[[Callable[[], None]], dict[str, Any]]:  # noqa: ARG001 (it cleans up)
    """The JSON line that a call writes."""

    def run(write: Callable[[], None]) -> dict[str, Any]:
        stream = io.StringIO()
        configure(format="json", level="DEBUG", stream=stream)
        write()
        (line,) = stream.getvalue().splitlines()
        decoded: dict[str, Any] = json.loads(line)
        return decoded

    return run


def test_json(logged: Any) -> None:
    """A line has Cloud Logging's severity, the time with its zone, and whatever `extra` gave."""
    line = logged(lambda: log.warning("swept %d", 3, extra={"job_id": JOB, "attempt": 2}))
    assert (line["severity"], line["message"], line["logger"]) == ("WARNING", "swept 3", "outboxkit.test")
    assert (line["job_id"], line["attempt"]) == (str(JOB), 2)
    assert datetime.fromisoformat(line["time"]).utcoffset() is not None


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_severities(logged: Any, level: str) -> None:
    """Python's levels are Cloud Logging's severities."""
    assert logged(lambda: log.log(logging.getLevelName(level), "x"))["severity"] == level


def test_job_context(logged: Any) -> None:
    """Every line inside is about the job, none after it; an inner context counts alone."""

    def write() -> None:
        with job_context(job_id=JOB, attempt=1, traceparent=TRACE):
            log.info("inside")

    line = logged(write)
    assert (line["job_id"], line["attempt"], line["traceparent"]) == (str(JOB), 1, TRACE)
    assert line["logging.googleapis.com/trace"] == "a" * 32
    assert "job_id" not in logged(lambda: log.info("outside"))


@pytest.mark.parametrize(
    "traceparent", ["", "abc", "00-x-y-z", "-", 7, None, "00-" + "0" * 32 + "-" + "b" * 16 + "-01"]
)
def test_malformed_traceparent(logged: Any, traceparent: Any) -> None:
    """A trace that is none, as any producer may have written, costs no line."""
    line = logged(lambda: log.info("x", extra={"traceparent": traceparent}))
    assert line["message"] == "x"
    assert "logging.googleapis.com/trace" not in line


def test_exceptions(logged: Any) -> None:
    """A traceback is a field of the line, not lines of its own."""

    def write() -> None:
        try:
            raise ValueError("boom\nboom")
        except ValueError:
            log.exception("failed")

    line = logged(write)
    assert line["severity"] == "ERROR"
    assert line["exception"].endswith("ValueError: boom\nboom")


@pytest.mark.parametrize(
    ("message", "extra"),
    [
        ("lone \ud800 surrogate", {}),
        ("new\nline and \x00 and \x1b[31m", {}),
        ("x", {"value": "\udfff"}),
        ("x", {"value": {(1, 2): 3}}),
        ("x", {"value": float("nan")}),
        ("x", {"value": 10**400}),
        ("x", {"value": object()}),
        ("x", {"value": [Exception("e"), {1, 2}, b"bytes"]}),
        ("x", {"na\ud800me": 1}),
    ],
)
def test_never_a_lost_line(logged: Any, message: str, extra: dict[str, Any]) -> None:
    """Whatever is logged is one line of JSON."""
    line = logged(lambda: log.error(message, extra=extra))
    assert line["severity"] == "ERROR"
    assert line["message"].split()[0] == message.split(maxsplit=1)[0]


def test_pretty(root: None) -> None:  # noqa: ARG001 (it cleans up)
    """For people: the time, the level, the message, then the fields."""
    stream = io.StringIO()
    configure(format="pretty", level="INFO", stream=stream)
    with job_context(job_id=JOB):
        log.info("hello", extra={"attempt": 3})
        log.debug("not this")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(f"INFO    hello  job_id={JOB} attempt=3")


@pytest.mark.parametrize("terminal", [True, False])
def test_auto(root: None, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:  # noqa: ARG001 (it cleans up)
    """By itself the format is the pretty one in a terminal and JSON elsewhere."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    configure(level="INFO", stream=stream)
    log.info("hello")
    assert stream.getvalue().startswith("{") is not terminal


def test_configured_twice(root: None) -> None:  # noqa: ARG001 (it cleans up)
    """Configuring again replaces, so no line comes twice."""
    stream = io.StringIO()
    for _ in range(2):
        configure(format="json", level="INFO", stream=stream)
    log.info("once")
    assert len(stream.getvalue().splitlines()) == 1
