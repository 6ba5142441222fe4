"""What a relay needs to ask Cloud Tasks for a task that it created earlier.

Revision ID: outboxkit_0002
"""

from alembic import op

revision = "outboxkit_0002"
down_revision = "outboxkit_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No row is rewritten, for the default is a constant: the lock is held for a moment.
    op.execute(
        "alter table outboxkit.jobs add column handed_over bigint, add column excused integer not null default 0"
    )


def downgrade() -> None:
    op.execute("alter table outboxkit.jobs drop column handed_over, drop column excused")
