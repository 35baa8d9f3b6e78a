"""Uploads: files that clients send, to make datasets of them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=True),
        sa.Column("offset_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(255), nullable=True),
        sa.Column("folder_id", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_owner_created_at_id", "uploads", ["owner", "created_at", "id"])
    op.create_index("ix_uploads_state_expires_at", "uploads", ["state", "expires_at"])


def downgrade() -> None:
    """Bring the tables back to the revision before. The files of uploads stay on disk."""
    op.drop_table("uploads")
