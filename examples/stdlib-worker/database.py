"""Postgres through the program psql: one process for each statement of ../shell/sql."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

STATEMENTS = Path(__file__).resolve().parents[1] / "shell" / "sql"
SECONDS = 10
"""The longest that a statement may take, a wait for a row included."""

_ESCAPED = str.maketrans({"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r"})
_SQLSTATE = re.compile(r":  ([0-9A-Z]{5}): ")  # after the severity, in whatever language
_URL = re.compile(r"postgres(?:ql)?(?:\+\w+)?://(?:([^/?#@:]*)(?::([^/?#@]*))?@)?(.*)")

csv.field_size_limit(2**31 - 1)  # a payload may be long


class DatabaseError(Exception):
    """A statement failed, or the database did not answer; `sqlstate` is None then, and nobody knows what it did."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    @property
    def is_about_data(self) -> bool:
        """Whether Postgres cannot store a value: trying again is no use (SQLSTATE class 22)."""
        return self.sqlstate is not None and self.sqlstate.startswith("22")


class Database:
    """Runs the statements. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        url, password = _without_password(url)
        # Not the terminal's settings, nor a person's ~/.psqlrc: the output is read by a program.
        self._command = [
            "psql",
            "-X",
            "-q",
            "--csv",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
            "-v",
            "VERBOSITY=verbose",
            "-d",
            url,
        ]
        self._environment = os.environ | {
            "PGCLIENTENCODING": "UTF8",
            "PGCONNECT_TIMEOUT": "5",
            "PGAPPNAME": "outboxkit-stdlib-worker",
            "PGOPTIONS": f"-c statement_timeout={SECONDS}s",
        }
        if password is not None:
            self._environment["PGPASSWORD"] = password

    def run(self, name: str, **variables: object) -> list[dict[str, str]]:
        """Run the statement NAME.sql; returns its rows as text, an absent value as the empty string.

        Raises DatabaseError. If this process dies here, the statement has happened or it has not.
        """
        # In the input, not as -v: everybody can read a process's arguments, and they may not be long.
        settings = "".join(f"\\set {key} {quote(value)}\n" for key, value in variables.items())
        script = f"{settings}\\i {quote(STATEMENTS / f'{name}.sql')}\n"
        try:
            done = subprocess.run(  # noqa: S603 (our own command, and no shell)
                self._command,
                input=script.encode(),
                env=self._environment,
                capture_output=True,
                timeout=SECONDS + 10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DatabaseError(f"psql: {error}") from None
        if done.returncode != 0:
            message = done.stderr.decode("utf-8", "replace").strip()
            found = _SQLSTATE.search(message)
            raise DatabaseError(message or f"psql: exit status {done.returncode}", found[1] if found else None)
        return list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))


def quote(value: object) -> str:
    """A value as psql's backslash commands read it."""
    return f"'{str(value).translate(_ESCAPED)}'"


def _without_password(url: str) -> tuple[str, str | None]:
    """The URL as psql knows it (no +driver), and its password, which no process's arguments may show."""
    match = _URL.fullmatch(url)
    if match is None:
        return url, None
    user, password, rest = match.groups()
    return f"postgresql://{'' if user is None else f'{user}@'}{rest}", None if password is None else unquote(password)
