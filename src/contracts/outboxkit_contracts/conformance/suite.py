"""The checks, and how they are run."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Final, Literal

import msgspec

from outboxkit_contracts.conformance.exchanges import Exchange
from outboxkit_contracts.conformance.jobs import MakingFailed
from outboxkit_contracts.conformance.outcomes import Failed, Skipped
from outboxkit_contracts.conformance.probe import Probe
from outboxkit_contracts.conformance.target import Level, Target
from outboxkit_contracts.validation import shipped

Body = Callable[[Probe], None]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a worker must do.

    `name` is `group.rule`. `section` is where the document says so, as a JSON pointer. `title` is the rule as a sentence.
    """

    name: str
    title: str
    section: str
    level: Level
    body: Body

    @property
    def group(self) -> str:
        """What stands before the dot in its name."""
        return self.name.partition(".")[0]

    @property
    def place(self) -> str:
        """The section in a few words: `POST /process-job 409`, `Trigger.jobId`."""
        steps = [step.replace("~1", "/") for step in self.section.removeprefix("#/").split("/")]
        if steps[0] == "info":
            return "introduction"
        if steps[0] == "components":
            return ".".join(step for step in steps[2:] if step != "properties")
        path, method, *rest = steps[1:]
        part = " ".join(rest[1:2] if rest[:1] == ["responses"] else rest[:1])
        return f"{method.upper()} {path} {part}".strip()


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one check ended. `message` says why it did not pass; `reproduce` is a command line that shows it."""

    check: Check
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float
    requests: int
    message: str = ""
    reproduce: str = ""


# A shorter secret would be found in the middle of words.
_SHORTEST: Final = 4

_CHECKS: Final[dict[str, Check]] = {}


def check(name: str, section: str, *, level: Level = Level.BASIC) -> Callable[[Body], Body]:
    """Register a check; its docstring's first line is its title."""

    def register(body: Body) -> Body:
        title = (body.__doc__ or "").partition("\n")[0].rstrip(".")
        assert name not in _CHECKS, name  # noqa: S101 (two checks of one name would be one)
        _CHECKS[name] = Check(name=name, title=title, section=section, level=level, body=body)
        return body

    return register


def select(level: Level = Level.FULL, only: Iterable[str] = ()) -> Sequence[Check]:
    """The checks of a level, in the order in which they are run; with `only`, those that a pattern of it matches.

    Raises ValueError when a pattern matches no check: a misspelt one would pass by checking nothing.
    """
    # Imported here: these modules register themselves by importing this one.
    from outboxkit_contracts.conformance.checks import load

    load()
    found = [c for c in _CHECKS.values() if level is Level.FULL or c.level is Level.BASIC]
    patterns = list(only)
    for pattern in patterns:
        if not fnmatch.filter([c.name for c in found], pattern):
            raise ValueError(
                f"no check of level {level} is called {pattern!r}; there are {', '.join(c.name for c in found)}"
            )
    return [c for c in found if not patterns or any(fnmatch.fnmatch(c.name, p) for p in patterns)]


def run_check(one: Check, target: Target) -> Result:
    """Run one check. Never raises what a worker can cause; a bug of a check's own is not caught."""
    started = monotonic()
    with Probe(target, shipped()) as probe:
        outcome: Literal["passed", "failed", "skipped"] = "passed"
        message = reproduce = ""
        try:
            one.body(probe)
        except Skipped as reason:
            outcome, message = "skipped", str(reason)
        except Failed as failure:
            outcome, message = "failed", str(failure)
            reproduce = failure.command or _reproduce(failure.exchange, probe.exchanges)
        except MakingFailed as failure:
            outcome, message = "failed", str(failure)
            reproduce = _reproduce(None, probe.exchanges)
        return Result(
            check=one,
            outcome=outcome,
            seconds=monotonic() - started,
            requests=len(probe.exchanges),
            message=_without_secrets(message, target),
            reproduce=_without_secrets(reproduce, target),
        )


def run(target: Target, selected: Sequence[Check] | None = None) -> Iterator[Result]:
    """Run checks one after another, yielding each result as it comes; all of them by default."""
    for one in select() if selected is None else selected:
        yield run_check(one, target)


def _reproduce(exchange: Exchange | None, sent: Sequence[Exchange]) -> str:
    shown = exchange or (sent[-1] if sent else None)
    return "" if shown is None else shown.curl


def _without_secrets(text: str, target: Target) -> str:
    """What is shown and kept holds no secret, wherever a check or a worker has put one."""
    for value, variable in target.secrets:
        if len(value) < _SHORTEST:
            continue
        text = text.replace(value, f"${variable}")
    return text
