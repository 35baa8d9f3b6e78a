"""For a fleet: indexes for what commits and deletions look up; on PostgreSQL, numbers that need no lock."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NAMED = ("init_from", "resume_from", "parent_id")
_NUMBERS = ("publications", "claims")
_LEFT_FREE = 1000  # for workers of the revision before that commit a last checkpoint by the counter


def upgrade() -> None:
    """Bring the tables to this revision."""
    for name in _NAMED:
        is_set = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"ix_jobs_{name}", "jobs", [name], sqlite_where=is_set, postgresql_where=is_set)
    if op.get_bind().dialect.name == "postgresql":
        for name in _NUMBERS:
            value = op.get_bind().scalar(sa.text("SELECT value FROM counters WHERE name = :name"), {"name": name})
            op.execute(f"CREATE SEQUENCE {name} START {int(value) + _LEFT_FREE if value else 1}")


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    if op.get_bind().dialect.name == "postgresql":
        for name in _NUMBERS:
            last = f"(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {name})"
            op.execute(f"UPDATE counters SET value = GREATEST(value, {last}) WHERE name = '{name}'")
            op.execute(f"DROP SEQUENCE {name}")
    for name in _NAMED:
        op.drop_index(f"ix_jobs_{name}", "jobs")
