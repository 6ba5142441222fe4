"""The kit's tables, indexes, hot-table settings and SQL functions.

Revision ID: outboxkit_0001
"""

from pathlib import Path

from alembic import op

revision = "outboxkit_0001"
down_revision = None
branch_labels = ("outboxkit",)
depends_on = None

_UP = Path(__file__).with_suffix(".sql")

_DOWN = """
drop function outboxkit.complete_attempt(uuid, integer, uuid, jsonb);
drop function outboxkit.enqueue_jobs(jsonb);
drop function outboxkit.enqueue_job(text, jsonb, text, timestamptz, text, integer, text);
drop table outboxkit.idempotency_keys, outboxkit.audit, outboxkit.processes, outboxkit.trigger_stats,
    outboxkit.trigger_settings, outboxkit.dead_letters, outboxkit.outbox, outboxkit.jobs;
drop function outboxkit.uuid7();
"""


def upgrade() -> None:
    _run(_UP.read_text())


def downgrade() -> None:
    # The schema stays: alembic's own version table lives in it.
    _run(_DOWN)


def _run(script: str) -> None:
    """A whole script at once: to the driver as it is, or to the output of `--sql`."""
    if op.get_context().as_sql:
        op.get_context().impl.static_output(script)
    else:
        # The driver's own cursor: given no parameters, it takes many statements and leaves `%` alone.
        op.get_bind().connection.cursor().execute(script)
