"""The kit's migrations: up, down, twice, at once, by other tools, and under little privilege."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, MetaData, Table, pool
from sqlalchemy.exc import OperationalError

from databases import Database, Server, branches
from outboxkit.alembic import include_object
from outboxkit.database import sqlalchemy_url
from outboxkit.migrations import REVISION, included_tables, scripts, sql, upgrade
from outboxkit.migrations import downgrade as downgrade_branch
from outboxkit.tables import metadata
from waiting import until

CHECKOUT = Path(__file__).parents[3]


@contextmanager
def connected(database: Database) -> Iterator[sqlalchemy.Connection]:
    """A SQLAlchemy connection that leaves nothing open."""
    engine = sqlalchemy.create_engine(sqlalchemy_url(database.url), poolclass=pool.NullPool)
    with engine.connect() as connection:
        yield connection


def described(database: Database) -> dict[str, Any]:
    """Everything in the database that is the kit's or the sample's, as Postgres itself describes it."""
    queries = {
        "columns": """
            select table_schema, table_name, ordinal_position, column_name, data_type, is_nullable, column_default,
                   is_identity, identity_generation
            from information_schema.columns where table_schema in ('outboxkit', 'reports')""",
        "indexes": "select schemaname, indexdef from pg_indexes where schemaname in ('outboxkit', 'reports')",
        "constraints": """
            select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint
            where connamespace in (select oid from pg_namespace where nspname in ('outboxkit', 'reports'))""",
        "settings": """
            select oid::regclass::text, reloptions::text from pg_class
            where relnamespace in (select oid from pg_namespace where nspname in ('outboxkit', 'reports'))""",
        "functions": """
            select pg_get_functiondef(oid), proacl::text from pg_proc
            where pronamespace in (select oid from pg_namespace where nspname in ('outboxkit', 'reports'))""",
        "singletons": "select to_jsonb(s)::text from outboxkit.trigger_settings s",
        "versions": "select version_num from outboxkit.alembic_version",
    }
    with database.sync() as connection:
        return {
            name: sorted(map(str, connection.execute(query.encode()).fetchall())) for name, query in queries.items()
        }


def left(database: Database) -> dict[str, Any]:
    """What is in the kit's schema: tables, functions, rows of the version table."""
    with database.sync() as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'outboxkit'").fetchall()
        functions = connection.execute(
            "select proname from pg_proc where pronamespace = 'outboxkit'::regnamespace"
        ).fetchall()
        versions = connection.execute("select version_num from outboxkit.alembic_version").fetchall()
    return {"tables": [name for (name,) in tables], "functions": functions, "versions": versions}


class TestUpAndDown:
    """Applying and taking back."""

    def test_round_trip(self, empty_database: Database) -> None:
        """Every branch goes up, down to nothing but the schema with its version table, and up to the same again."""
        upgrade(empty_database.url, branches=branches())
        first = described(empty_database)
        for branch in reversed(branches()):
            downgrade_branch(empty_database.url, branch=branch)
        assert left(empty_database) == {"tables": ["alembic_version"], "functions": [], "versions": []}
        upgrade(empty_database.url, branches=branches())
        assert described(empty_database) == first

    def test_twice(self, database: Database) -> None:
        """An upgrade of a database that is up to date changes nothing."""
        before = described(database)
        upgrade(database.url, branches=branches())
        assert described(database) == before

    def test_two_processes_at_once(self, empty_database: Database) -> None:
        """Of two processes that upgrade at once one does it, the other waits and finds nothing to do."""
        script = "import sys; from outboxkit.migrations import upgrade; upgrade(sys.argv[1], branches=sys.argv[2:])"
        command = [sys.executable, "-c", script, empty_database.url, *branches()]
        started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        ended = [(process.communicate(timeout=60)[1], process.returncode) for process in started]
        assert ended == [("", 0)] * 2
        assert described(empty_database)["versions"] != []

    def test_revision_is_the_head(self) -> None:
        """What readiness asks for is the newest revision of the kit's branch."""
        config = Config(CHECKOUT / "alembic.ini")
        script = ScriptDirectory.from_config(config)
        head = script.get_revision("outboxkit@head")
        assert head is not None
        assert head.revision == REVISION

    def test_a_failure_leaves_nothing(self, empty_database: Database) -> None:
        """A migration that fails half-way is rolled back whole."""
        with empty_database.sync() as connection:
            connection.execute("create schema outboxkit")
            connection.execute("create table outboxkit.idempotency_keys (mine int)")
        with pytest.raises(psycopg.errors.DuplicateTable):
            upgrade(empty_database.url)
        with empty_database.sync() as connection:
            tables = connection.execute("select tablename from pg_tables where schemaname = 'outboxkit'").fetchall()
        assert tables == [("idempotency_keys",)]


class TestLocks:
    """A migration never queues, because everyone else would queue behind it."""

    def test_lock_timeout(self, database: Database) -> None:
        """Behind a long query the migration gives up after its timeout, and leaves everything as it was."""
        before = described(database)
        with database.sync() as reader:
            reader.execute("begin")
            reader.execute("select from outboxkit.jobs")
            with pytest.raises(OperationalError, match="lock timeout"):
                downgrade_branch(database.url, branch="outboxkit", lock_timeout=0.05)
            reader.execute("rollback")
        assert described(database) == before

    def test_waits_for_another_migration(self, database: Database) -> None:
        """A second migration waits for the first for as long as its timeout allows."""
        from outboxkit import migrations

        key = re.search(r"ADVISORY_LOCK = (0x[0-9A-F]+)", (migrations.scripts() / "env.py").read_text())
        assert key is not None
        with database.sync() as holder:
            holder.execute("select pg_advisory_lock(%s)", [int(key[1], 16)])
            with pytest.raises(OperationalError, match="lock timeout"):
                upgrade(database.url, lock_timeout=0.05)
            waiting = threading.Thread(target=upgrade, args=[database.url])
            waiting.start()
            blocked = "select from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"
            with database.sync() as observer:
                until(lambda: observer.execute(blocked).fetchall(), what="the migration to wait")
            holder.execute("select pg_advisory_unlock_all()")
            waiting.join(30)
            assert not waiting.is_alive()


class TestPrivileges:
    """What the role that migrates needs."""

    @pytest.fixture
    def owner(self, empty_database: Database) -> Iterator[str]:
        """A role that may do nothing in the database yet."""
        role = f"owner_{empty_database.name}"
        with empty_database.sync() as connection:
            connection.execute(f"create role {role} login")
            yield role
            connection.execute(f"drop owned by {role} cascade")
            connection.execute(f"drop role {role}")

    def test_schema_that_exists(self, empty_database: Database, owner: str) -> None:
        """Where an administrator has made the schema, no right to create one in the database is needed."""
        with empty_database.sync() as connection:
            connection.execute(f"create schema outboxkit authorization {owner}")
        upgrade(_as(empty_database, owner))
        assert described(empty_database)["versions"] == [f"('{REVISION}',)"]

    def test_schema_that_is_missing(self, empty_database: Database, owner: str) -> None:
        """Where there is none the error is Postgres's own, and nothing is left."""
        with empty_database.sync() as connection:
            connection.execute(f"revoke create on database {empty_database.name} from public, {owner}")
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="permission denied for database"):
            upgrade(_as(empty_database, owner))


class TestOtherTools:
    """For those who apply SQL by other means."""

    def test_sql_through_psql(self, postgres_server: Server, empty_database: Database, psql: Path) -> None:
        """What `sql()` prints runs through psql on an empty database, and makes the same schema as an upgrade."""
        script = sql(branches=branches())
        ran = subprocess.run(
            [str(psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", empty_database.url],
            input=script,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        with postgres_server.temporary() as other:
            upgrade(other.url, branches=branches())
            assert described(empty_database) == described(other)

    def test_upgrade_after_sql(self, empty_database: Database, psql: Path) -> None:
        """A database that was made from the printed SQL is up to date for the command."""
        subprocess.run([str(psql), "-X", "-q", empty_database.url], input=sql(), text=True, timeout=60, check=True)
        before = described(empty_database)
        upgrade(empty_database.url)
        assert described(empty_database) == before

    def test_plain_alembic(self, empty_database: Database) -> None:
        """The plain `alembic` command works in a checkout, with the URL in any spelling, and finds nothing to add."""
        url = "postgres+asyncpg://" + empty_database.url.partition("://")[2]
        for arguments in (["upgrade", "heads"], ["check"]):
            ran = _alembic(*arguments, environ={**os.environ, "DATABASE_URL": url})
            assert ran.returncode == 0, ran.stderr
        assert f"('{REVISION}',)" in described(empty_database)["versions"]

    def test_no_url(self) -> None:
        """Without a URL the command says which variable is missing."""
        environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        ran = _alembic("upgrade", "heads", environ=environ)
        assert ran.returncode != 0
        assert "DATABASE_URL" in ran.stderr
        assert "Traceback" not in ran.stderr


def _alembic(*arguments: str, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=CHECKOUT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestModels:
    """The tables in Python, and those in Postgres."""

    def test_metadata_is_the_schema(self, database: Database) -> None:
        """Autogenerate finds nothing to change: columns, types, defaults, indexes, keys."""
        with connected(database) as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "include_schemas": True,
                    "include_name": included_tables,
                    "compare_type": True,
                    "compare_server_default": True,
                },
            )
            assert compare_metadata(context, metadata) == []

    def test_partial_indexes(self, database: Database) -> None:
        """So does a comparison of the indexes' own definitions, conditions included, which autogenerate leaves out."""
        compiled = {}
        for table in metadata.tables.values():
            for index in table.indexes:
                ddl = str(
                    sqlalchemy.schema.CreateIndex(index).compile(dialect=sqlalchemy.dialects.postgresql.dialect())
                )
                compiled[index.name] = _bare(ddl)
        with database.sync() as connection:
            found = connection.execute(
                "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index i"
                " join pg_class c on c.oid = i.indexrelid"
                " where c.relnamespace = 'outboxkit'::regnamespace and not i.indisprimary"
            ).fetchall()
        assert {name.removeprefix("outboxkit."): _bare(definition) for name, definition in found} == compiled

    def test_an_adopters_autogenerate(self, database: Database) -> None:
        """With include_object an adopter's autogenerate sees its own tables and proposes nothing about ours."""
        own = MetaData()
        Table("orders", own, Column("id", Integer, primary_key=True))
        options = {"include_schemas": True, "compare_server_default": True}
        with connected(database) as connection:
            guarded = MigrationContext.configure(connection, opts={**options, "include_object": include_object})
            proposed = render_python_code(produce_migrations(guarded, own).upgrade_ops)
            assert "orders" in proposed
            assert "outboxkit" not in proposed
            bare = MigrationContext.configure(connection, opts=options)
            assert "outboxkit" in render_python_code(produce_migrations(bare, own).upgrade_ops), "the guard is needed"

    def test_hot_tables(self, database: Database) -> None:
        """The tables that every job writes are vacuumed by count, and leave room on their pages."""
        with database.sync() as connection:
            found = dict(
                connection.execute(
                    "select relname, reloptions from pg_class where relnamespace = 'outboxkit'::regnamespace"
                    " and relkind = 'r' and reloptions is not null"
                ).fetchall()
            )
        settings = {name: dict(option.split("=") for option in options) for name, options in found.items()}
        assert settings.keys() >= {"jobs", "outbox"}
        for name in ("jobs", "outbox"):
            assert float(settings[name]["autovacuum_vacuum_scale_factor"]) == 0
            assert int(settings[name]["autovacuum_vacuum_threshold"]) <= 10_000
            assert int(settings[name]["fillfactor"]) < 100


def test_scripts_are_found() -> None:
    """The folder has the environment and the kit's own branch."""
    assert (scripts() / "env.py").is_file()
    assert (scripts() / "outboxkit").is_dir()


def _as(database: Database, role: str) -> str:
    separator = "&" if "?" in database.url else "?"
    return f"{database.url}{separator}options=-c%20role%3D{role}"


def _bare(definition: str) -> str:
    """An index definition without what the two spell differently."""
    text = re.sub(r"::\w+|using btree|[()\"]", " ", definition.lower()).replace("outboxkit.", "")
    return " ".join(text.split())
