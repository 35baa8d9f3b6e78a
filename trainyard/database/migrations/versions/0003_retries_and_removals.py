"""Retries and removals: the checkpoint whose full state a job begins with, and files of jobs that no longer exist."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.add_column("jobs", sa.Column("resume_from", sa.String(255), nullable=True))
    op.create_table(
        "removals",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("created_at", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.drop_table("removals")
    op.drop_column("jobs", "resume_from")
