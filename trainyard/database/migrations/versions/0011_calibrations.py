"""Calibrations of checkpoints: how far their probabilities can be trusted."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.add_column("checkpoints", sa.Column("calibration", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Bring the tables back to the revision before. Calibrations are made anew when they are asked for."""
    op.drop_column("checkpoints", "calibration")
