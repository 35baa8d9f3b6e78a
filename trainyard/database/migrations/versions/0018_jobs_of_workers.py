"""Jobs of workers: what a worker has is found without a look at all that run."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    few = sa.text("lease_owner IS NOT NULL")
    op.create_index("ix_jobs_lease_owner", "jobs", ["lease_owner"], sqlite_where=few, postgresql_where=few)


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.drop_index("ix_jobs_lease_owner", "jobs")
