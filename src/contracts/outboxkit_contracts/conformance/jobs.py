"""Where a conformance run gets its jobs from. Each is made for the run, and is the run's to use up."""

from __future__ import annotations

import enum
import subprocess
from typing import Final, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

COMMAND_SECONDS: Final = 60
"""How long a command that makes a job may take."""


class Need(enum.StrEnum):
    """What a check wants of a job."""

    QUICK = "quick"
    """Due now; its handler succeeds at once."""

    SLOW = "slow"
    """Due now; its handler succeeds after some seconds: 2 to 10."""

    FAILING = "failing"
    """Due now; its handler fails."""

    FUTURE = "future"
    """Due in an hour."""

    UNKNOWN_KIND = "unknown-kind"
    """Due now, of a kind that the worker has no handler for."""


class CannotMake(Exception):  # noqa: N818 (names what happened)
    """There is no job of this sort to be had; the message says what to give for one. The check is skipped."""


class Jobs(Protocol):
    """A source of jobs."""

    def make(self, need: Need) -> UUID:
        """A new job of this sort, committed. Raises `CannotMake`, or `MakingFailed` when it should have been possible."""
        ...


class JobRow(NamedTuple):
    """What a check may want to know of a job."""

    state: str
    attempt: int
    leased_by: str | None
    triggers: int
    """Outbox rows that are left for the job."""


@runtime_checkable
class ObservedJobs(Jobs, Protocol):
    """A source whose jobs can be looked at where they stand."""

    def row(self, job: UUID) -> JobRow:
        """How the job stands now."""
        ...

    def take_over(self, job: UUID) -> str:
        """Take a running job away from its worker, as another worker does after the lease; returns the new holder."""
        ...

    def cancel(self, job: UUID) -> None:
        """End a job that was taken over, so that nothing is left behind."""
        ...


class MakingFailed(Exception):  # noqa: N818 (names what happened)
    """A job should have been made and was not; the message says why. The check fails."""


class NoJobs:
    """No jobs: what needs one is skipped."""

    def make(self, need: Need) -> UUID:
        """Raises `CannotMake`."""
        raise CannotMake(f"needs a {need} job: give --job-id-command or --database-url")


class CommandJobs:
    """Jobs that a shell command makes, printing their ids.

    The last line of its output is the id. `{need}` in the command stands for the sort of job; a command without it makes
    quick jobs only. A command that cannot make a sort of job exits with 64 (EX_USAGE in sysexits.h); any other status but
    0 is a failure.
    """

    CANNOT: Final = 64

    def __init__(self, command: str) -> None:
        self._command = command

    def make(self, need: Need) -> UUID:
        """Run the command."""
        if need is not Need.QUICK and "{need}" not in self._command:
            raise CannotMake(f"needs a {need} job: put {{need}} into --job-id-command")
        command = self._command.replace("{need}", need)
        try:
            run = subprocess.run(  # noqa: S602 (the user's own command line, for the user's own shell)
                command,
                shell=True,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_SECONDS,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise MakingFailed(f"`{command}` did not end within {COMMAND_SECONDS} s") from error
        if run.returncode == self.CANNOT:
            raise CannotMake(f"the --job-id-command makes no {need} job (it exited with {self.CANNOT})")
        if run.returncode != 0:
            raise MakingFailed(f"`{command}` exited with {run.returncode}: {_last_line(run.stderr) or 'no message'}")
        return _parsed(command, _last_line(run.stdout))


def _parsed(command: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise MakingFailed(f"`{command}` printed {text[:80]!r}, which is no job id (a UUID)") from error


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
