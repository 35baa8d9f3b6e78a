"""Turns of owners: numbered claims, the slot of a running job, and an index to find each owner's next job."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.add_column("jobs", sa.Column("claim_number", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("slot", sa.Integer(), nullable=True))
    op.drop_index("ix_jobs_state_priority_queued_at", "jobs")
    op.create_index("ix_jobs_turn", "jobs", ["state", "owner", sa.text("priority DESC"), "queued_at", "id"])
    op.create_index("ix_jobs_owner_claim_number", "jobs", ["owner", "claim_number"])
    op.execute("INSERT INTO counters (name, value) VALUES ('claims', 0)")


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.execute("DELETE FROM counters WHERE name = 'claims'")
    op.drop_index("ix_jobs_owner_claim_number", "jobs")
    op.drop_index("ix_jobs_turn", "jobs")
    op.create_index("ix_jobs_state_priority_queued_at", "jobs", ["state", "priority", "queued_at"])
    op.drop_column("jobs", "slot")
    op.drop_column("jobs", "claim_number")
