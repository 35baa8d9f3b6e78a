"""Predictions over many images: rows of `jobs` that may have no dataset, and the segments of their results."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_OPTIONAL, _NEEDED = "dataset_id VARCHAR(255)", "dataset_id VARCHAR(255) NOT NULL"


def upgrade() -> None:
    """Bring the tables to this revision."""
    _change_dataset_id(nullable=True)
    op.create_table(
        "prediction_segments",
        sa.Column("job_id", sa.String(255), nullable=False),
        sa.Column("first_row", sa.BigInteger, nullable=False),
        sa.Column("num_rows", sa.Integer, nullable=False),
        sa.Column("lease_epoch", sa.BigInteger, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(255), nullable=False),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "first_row", name="pk_prediction_segments"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_prediction_segments_job_id"),
    )


def downgrade() -> None:
    """Bring the tables back to the revision before. Predictions are removed; the files of their results stay."""
    op.drop_table("prediction_segments")
    for table in ("job_events", "idempotency_keys", "outbox"):
        op.execute(f"DELETE FROM {table} WHERE job_id IN (SELECT id FROM jobs WHERE kind = 'predict')")
    op.execute("DELETE FROM jobs WHERE kind = 'predict'")
    _change_dataset_id(nullable=False)


def _change_dataset_id(*, nullable: bool) -> None:
    """Let `jobs.dataset_id` be null, or not.

    SQLite can't do so before 3.53, and a copy of the table would break the references to it. What is stored stays the
    same, so the table's definition is changed in place, by the steps that SQLite's manual gives for this ("Making Other
    Kinds Of Table Schema Changes").
    """
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        op.alter_column("jobs", "dataset_id", existing_type=sa.String(255), nullable=nullable)
        return
    before, after = (_NEEDED, _OPTIONAL) if nullable else (_OPTIONAL, _NEEDED)
    of_jobs = "type = 'table' AND name = 'jobs'"
    definition = connection.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE {of_jobs}").scalar_one()
    assert definition.count(f"{before},") == 1, "the table is not as the revision before leaves it"
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = definition.replace(f"{before},", f"{after},")
    connection.exec_driver_sql(f"UPDATE sqlite_master SET sql = ? WHERE {of_jobs}", (changed,))
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
