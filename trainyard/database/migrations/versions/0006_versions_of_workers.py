"""Versions of workers: the revision that each one's code needs, so that one of another release is recognised."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.add_column("workers", sa.Column("revision", sa.String(255), nullable=True))


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.drop_column("workers", "revision")
