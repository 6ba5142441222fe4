"""The database under attack: tables, a login for each process with the rights of its role, and a record of what happens."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg

from outboxkit.migrations import upgrade
from outboxkit_cli.embedded import EmbeddedPostgres

HERE = Path(__file__).parent
ROLES = HERE.parents[1] / "deploy" / "sql" / "roles.sql"

# Places enough for the roles, few enough to be used up.
SETTINGS: Mapping[str, str] = {"max_connections": "120"}

LOGINS = """
create role web login;
create role relay;
create role worker;
create role relay_a login in role relay;
create role relay_b login in role relay;
create role worker_a login in role worker;
create role worker_b login in role worker;
"""


def prepare(postgres: EmbeddedPostgres) -> None:
    """Make all of it."""
    upgrade(postgres.url)
    with psycopg.connect(postgres.url) as connection:
        connection.execute(LOGINS)
        connection.execute((HERE / "schema.sql").read_bytes())
    names = [f"--set={role}={role}" for role in ("web", "relay", "worker")]
    subprocess.run([postgres.program("psql"), postgres.url, "--quiet", *names, f"--file={ROLES}"], check=True)
