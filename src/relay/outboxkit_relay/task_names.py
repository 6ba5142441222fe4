"""Names in Cloud Tasks: of projects, locations, queues, and of the task that an outbox row becomes."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from uuid import UUID

import msgspec

_PROJECT: Final = re.compile(r"[a-z][a-z0-9.:-]{4,98}[a-z0-9]")
_LOCATION: Final = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_QUEUE: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
_ADDRESS: Final = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):(?P<port>[0-9]{1,5})")


class QueueName(msgspec.Struct, frozen=True):
    """A queue of Cloud Tasks."""

    project: str
    location: str
    queue: str

    @property
    def path(self) -> str:
        """The queue as the API names it."""
        return f"projects/{self.project}/locations/{self.location}/queues/{self.queue}"

    def task(self, job_id: UUID, outbox_id: int) -> str:
        """The name of the task that this outbox row becomes: the same whoever sends it, and however often.

        † A hash of both: outbox ids alone repeat after the database was restored from a backup, and Cloud Tasks still knows
        the names of the tasks that it has run. Hashed, because names that begin alike slow a queue down.
        """
        digest = hashlib.sha256(job_id.bytes + outbox_id.to_bytes(8, "big", signed=True)).hexdigest()
        return f"{self.path}/tasks/{digest}"


def read_project(text: str) -> str:
    """Reads a project's id."""
    if text.isdigit():
        raise ValueError(f"{text!r} is a project's number; the API wants its id")
    return _matching(_PROJECT, text, "a project's id")


def read_location(text: str) -> str:
    """Reads a location, which Google also calls a region."""
    return _matching(_LOCATION, text, "a location")


def read_queue(text: str) -> str:
    """Reads a queue's own name."""
    if "/" in text:
        raise ValueError(f"{text!r} is a path; give the queue's own name, which is what stands last")
    return _matching(_QUEUE, text, "a queue's name: letters, digits and hyphens, 100 at most")


def read_account(text: str) -> str:
    """Reads a service account's e-mail address."""
    return _matching(_ACCOUNT, text, "a service account's e-mail address")


def read_address(text: str) -> str:
    """Reads host:port."""
    if "://" in text:
        raise ValueError(f"{text!r} is a URL; give host:port alone")
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"]) <= 65535:
        raise ValueError(f"{text!r} is not host:port")
    return text


def _matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is not {what}")
    return text
