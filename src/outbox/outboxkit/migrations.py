"""Applies the kit's migrations: found in a checkout and in a wheel, with no alembic.ini needed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

SCHEMA = "outboxkit"
VERSION_TABLE = "alembic_version"
BRANCHES = ("outboxkit", "reports")

# The newest revision this version of the code needs. Revisions are numbered, so "at least" is a comparison of strings,
# and readiness need not import alembic to make it.
REVISION = "outboxkit_0002"


def scripts() -> Path:
    """The migrations folder: the wheel's own copy, else the one at the top of the checkout."""
    inside = Path(__file__).with_name("_migrations")
    checkout = Path(__file__).parents[3] / "migrations"
    for folder in (inside, checkout):
        if (folder / "env.py").is_file():
            return folder
    raise FileNotFoundError(f"outboxkit's migrations are neither in {inside} nor in {checkout}: reinstall the package")


def included_tables(name: str | None, type_: str, parents: Mapping[str, str | None]) -> bool:
    """Which objects alembic's autogenerate compares for the kit itself: its own schema's, and not the version table."""
    if type_ == "schema":
        return name == SCHEMA
    return not (type_ == "table" and name == VERSION_TABLE and parents.get("schema_name") == SCHEMA)


def upgrade(url: str, *, branches: Sequence[str] = ("outboxkit",), lock_timeout: float = 10.0) -> None:
    """Bring the named branches to their newest revision, in one transaction each, under an advisory lock.

    Safe to run from many processes at once: the others wait, then find nothing to do. `lock_timeout` (seconds) bounds the
    wait for a lock, so that a migration never queues behind a long query with every other query behind itself. If the
    process dies, nothing of the unfinished branch is left.
    """
    for branch in branches:
        command.upgrade(_config(url=url, lock_timeout=lock_timeout), f"{branch}@head")


def downgrade(url: str, *, branch: str, target: str = "base", lock_timeout: float = 10.0) -> None:
    """Take one branch back to `target`, a revision or `base`. Dropping tables drops their rows."""
    command.downgrade(_config(url=url, lock_timeout=lock_timeout), f"{branch}@{target}")


def sql(*, branches: Sequence[str] = ("outboxkit",)) -> str:
    """The statements `upgrade` would run on an empty database, for other migration tools."""
    out = io.StringIO()
    config = _config(output=out)
    start = ""
    for branch in branches:
        command.upgrade(config, f"{start}{branch}@head", sql=True)
        # From the second branch on, alembic is told where the first has got to, or it would make its table again.
        start = start or f"{_head(config, branch)}:"
    return out.getvalue()


def _head(config: Config, branch: str) -> str:
    head = ScriptDirectory.from_config(config).get_revision(f"{branch}@head")
    if head is None:
        raise LookupError(f"no branch called {branch}")
    return head.revision


def _config(*, url: str | None = None, lock_timeout: float = 10.0, output: io.StringIO | None = None) -> Config:
    folder = scripts()
    config = Config(output_buffer=output) if output is not None else Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    locations = [folder / branch for branch in BRANCHES if (folder / branch).is_dir()]
    config.set_main_option("version_locations", "\n".join(str(p).replace("%", "%%") for p in locations))
    config.attributes.update(url=url, lock_timeout=lock_timeout)
    return config
