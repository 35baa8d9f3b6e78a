"""Traces of jobs: the context of the request that made a job, so that its worker goes on with the same trace."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.add_column("jobs", sa.Column("traceparent", sa.String(255), nullable=True))


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.drop_column("jobs", "traceparent")
