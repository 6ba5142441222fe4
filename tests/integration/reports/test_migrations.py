from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from databases import Database
from outboxkit.database import sqlalchemy_url
from outboxkit.migrations import downgrade, sql, upgrade
from outboxkit_reports.tables import SCHEMA, metadata


def schemas(database: Database) -> list[str]:
    """The schemas there are."""
    engine = create_engine(sqlalchemy_url(database.url))
    try:
        return inspect(engine).get_schema_names()
    finally:
        engine.dispose()


def test_the_models_are_what_the_migration_makes(database: Database) -> None:
    """Autogenerate finds no difference between the tables in code and the tables in Postgres."""
    engine = create_engine(sqlalchemy_url(database.url))

    def only_ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "schema" or name == SCHEMA

    with engine.connect() as connection:
        options = {"include_schemas": True, "include_name": only_ours, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        names = connection.execute(
            text("select conname from pg_constraint where connamespace = 'reports'::regnamespace and contype <> 'n'")
        )
        conventional = {
            str(constraint.name)
            for table in metadata.sorted_tables
            for constraint in table.constraints
            if constraint.name
        }
        assert set(names.scalars()) == conventional | {"reports_pkey", "sections_pkey"}
    engine.dispose()


def test_goes_up_and_down_and_up_again(empty_database: Database) -> None:
    """A downgrade takes away what the upgrade made, and leaves the kit's own branch alone."""
    for _ in range(2):
        upgrade(empty_database.url, branches=["reports"])
        assert {"outboxkit", "reports"} <= set(schemas(empty_database)), "the kit's branch comes first"
        downgrade(empty_database.url, branch="reports")
        assert "reports" not in schemas(empty_database)
        assert "outboxkit" in schemas(empty_database)


def test_a_schema_that_was_there_before_is_kept(empty_database: Database) -> None:
    """Where an administrator made the schema, the migration uses it and the downgrade leaves it."""
    with empty_database.sync() as connection:
        connection.execute("create schema reports")
    upgrade(empty_database.url, branches=["reports"])
    downgrade(empty_database.url, branch="reports")
    assert "reports" in schemas(empty_database)


def test_prints_its_sql() -> None:
    """`migrate --sql` shows the tables for those who apply SQL by other means."""
    script = sql(branches=["reports"])
    assert "CREATE TABLE reports.reports" in script
    assert "CREATE TABLE reports.sections" in script
