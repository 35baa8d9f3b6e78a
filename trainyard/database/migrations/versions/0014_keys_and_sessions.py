"""API keys, and the secret of the yard's sessions, which is drawn here."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(255), nullable=False),
        sa.Column("prefix", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("last_used_at", sa.Float(53), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("prefix", name="uq_api_keys_prefix"),
    )
    op.create_index("ix_api_keys_created_at_id", "api_keys", ["created_at", "id"])
    yard_secrets = op.create_table(
        "yard_secrets",
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("secret", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_yard_secrets"),
    )
    op.bulk_insert(yard_secrets, [{"number": 1, "secret": secrets.token_hex(32)}])


def downgrade() -> None:
    """Bring the tables back to the revision before. All keys that were made and all sessions end."""
    op.drop_table("yard_secrets")
    op.drop_index("ix_api_keys_created_at_id", "api_keys")
    op.drop_table("api_keys")
