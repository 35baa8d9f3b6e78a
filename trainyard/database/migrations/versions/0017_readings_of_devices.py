"""Readings of devices: how full and how busy each slot's device was at the worker's last heartbeat."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.add_column("workers", sa.Column("device_readings", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.drop_column("workers", "device_readings")
