"""Applies migrations for the command line: the kit's branch first, then those asked for."""

from collections.abc import Sequence

from sqlalchemy.exc import OperationalError

from outboxkit.migrations import sql, upgrade
from outboxkit_cli.failures import CommandFailed

KIT = "outboxkit"


def ordered(branches: Sequence[str]) -> list[str]:
    """Return the branches to apply: the kit's own, which the others build on, and each other one once."""
    return list(dict.fromkeys([KIT, *branches]))


def migrate(url: str, *, branches: Sequence[str] = ()) -> None:
    """Bring the kit's branch and those named to their newest revision; harmless when they are there already.

    Raises CommandFailed when the database cannot be reached or a lock is not had in time.
    """
    try:
        upgrade(url, branches=ordered(branches))
    except OperationalError as error:
        raise CommandFailed(f"the database could not be migrated: {str(error.orig).strip()}") from error


def migration_sql(branches: Sequence[str]) -> str:
    """Return the statements that would be run on an empty database, for other migration tools."""
    return sql(branches=ordered(branches))
