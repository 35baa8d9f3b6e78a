"""The id of the store of packs, checkpoints and logs that a database belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.create_table(
        "store_identity",
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("store_id", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_store_identity"),
    )


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.drop_table("store_identity")
