"""Alembic's environment for both branches (outboxkit, reports): one transaction, one lock, one version table.

`outboxkit migrate` passes the URL in `config.attributes["url"]`; the plain `alembic` command reads DATABASE_URL.
If the process dies here nothing is half-applied: Postgres's DDL is transactional and everything runs in one transaction.
"""

import os

from alembic import context
from sqlalchemy import create_engine, pool, text

from outboxkit.database import sqlalchemy_url
from outboxkit.migrations import SCHEMA, VERSION_TABLE, included_tables
from outboxkit.tables import metadata

# "outboxkit" in ASCII, cut to 63 bits: any number that nobody else uses would do.
ADVISORY_LOCK = 0x6F7574626F786B69

# Looked for first: managed Postgres refuses CREATE SCHEMA IF NOT EXISTS to a role without the right, even when the schema is
# there already.
_CREATE_SCHEMA = f"""
do $$ begin
    if to_regnamespace('{SCHEMA}') is null then
        create schema {SCHEMA};
    end if;
end $$"""


def _options() -> dict[str, object]:
    return {
        "target_metadata": metadata,
        "version_table": VERSION_TABLE,
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "include_name": included_tables,
        "transaction_per_migration": False,
    }


def _run_online() -> None:
    url = context.config.attributes.get("url") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("alembic: set DATABASE_URL, for example postgresql://user:password@localhost/app")
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    lock_timeout = float(context.config.attributes.get("lock_timeout", 10.0))
    with engine.begin() as connection:
        # A migration that waits behind a long query makes everyone else wait behind it: give up instead.
        connection.execute(
            text("select set_config('lock_timeout', :ms, true)"), {"ms": f"{round(lock_timeout * 1000)}ms"}
        )
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text(_CREATE_SCHEMA))
        context.configure(connection=connection, **_options())
        context.run_migrations()
    engine.dispose()


def _run_offline() -> None:
    context.configure(dialect_name="postgresql", literal_binds=True, **_options())
    with context.begin_transaction():
        context.execute(_CREATE_SCHEMA)
        context.run_migrations()


if context.is_offline_mode():
    _run_offline()
else:
    _run_online()
