"""Which mode is in force. The relay alone judges that; web and worker read what it publishes."""

from __future__ import annotations

import msgspec

from outboxkit.modes import Mode
from outboxkit_relay.settings import RelaySettings


class InForce(msgspec.Struct, frozen=True):
    """The mode in force, and a line for everything that keeps it from being the one asked for."""

    mode: Mode
    problems: list[str]


def judge(settings: RelaySettings, override: str | None) -> InForce:
    """The override's mode if this relay can work in it, else the environment's, else db: work still flows then.

    A mode that is set and not configured is never an error that stops the process: pollers take over, and the problem is
    published until somebody mends it.
    """
    problems: list[str] = []
    if override is not None:
        wanted = Mode(override)
        missing = settings.missing(wanted)
        if not missing:
            return InForce(wanted, [])
        problems += [f"the mode was set to {wanted} at run time, but {line}" for line in missing]
    missing = settings.missing(settings.mode)
    if "JOB_TRIGGER_MODE" in settings.malformed:
        missing.insert(0, settings.malformed["JOB_TRIGGER_MODE"])
    return InForce(Mode.DB if missing else settings.mode, problems + missing)
