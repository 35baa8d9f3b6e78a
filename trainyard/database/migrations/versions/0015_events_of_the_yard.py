"""Events of the yard, numbered over all jobs and datasets."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this revision."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "yard_events",
        sa.Column("number", number, autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(255), nullable=True),
        sa.Column("kind", sa.String(255), nullable=False),
        sa.Column("subject_id", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_yard_events")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE yard_event_numbers")
        op.execute("SELECT nextval('yard_event_numbers')")  # from now on `last_value` is a number that was drawn


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP SEQUENCE yard_event_numbers")
    op.drop_table("yard_events")
