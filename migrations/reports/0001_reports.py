"""The sample application's tables: reports and their sections.

Revision ID: reports_0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "reports_0001"
down_revision = None
branch_labels = ("reports",)
# None, though it is of no use without the kit's tables: alembic would take the kit's revision out of the version table (a
# head that another one depends on is implied), and readiness looks for it there.
depends_on = None

# Looked for first: managed Postgres refuses CREATE SCHEMA IF NOT EXISTS to a role without the right, even when the
# schema is there already. The comment tells the downgrade whose the schema is: one that was there before is kept.
_CREATE_SCHEMA = """
do $$
begin
    if to_regnamespace('reports') is null then
        create schema reports;
        comment on schema reports is 'made by outboxkit, reports_0001';
    end if;
end
$$
"""
_DROP_SCHEMA = """
do $$
begin
    if obj_description(to_regnamespace('reports'), 'pg_namespace') = 'made by outboxkit, reports_0001' then
        drop schema reports;
    end if;
end
$$
"""
_TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.execute(_CREATE_SCHEMA)
    op.create_table(
        "reports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("csv", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("start_job", sa.Uuid(), nullable=False),
        sa.Column("finish_job", sa.Uuid()),
        sa.Column("document", sa.Text()),
        sa.Column("completed_at", _TIME),
        sa.Column("cancelled_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="reports_pkey"),
        schema="reports",
    )
    op.create_index("reports_newest", "reports", ["created_at", "id"], schema="reports")
    op.create_table(
        "sections",
        sa.Column("report_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("part", postgresql.JSONB()),
        sa.Column("completed_at", _TIME),
        sa.PrimaryKeyConstraint("report_id", "name", name="sections_pkey"),
        sa.ForeignKeyConstraint(
            ["report_id"], ["reports.reports.id"], name="sections_report_id_fkey", ondelete="CASCADE"
        ),
        schema="reports",
    )


def downgrade() -> None:
    op.drop_table("sections", schema="reports")
    op.drop_table("reports", schema="reports")
    op.execute(_DROP_SCHEMA)
