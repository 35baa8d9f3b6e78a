"""Reads that don't slow down with the table: indexes for lists, queue and lowest loss; a table of jobs' metadata."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_AT_ONCE = 1000


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.create_index("ix_jobs_owner_state_created_at_id", "jobs", ["owner", "state", "created_at", "id"])
    op.create_index("ix_jobs_owner_dataset_id_created_at_id", "jobs", ["owner", "dataset_id", "created_at", "id"])
    op.drop_index("ix_jobs_turn", "jobs")
    priority = sa.text("priority DESC")
    op.create_index("ix_jobs_turn", "jobs", ["state", "owner", priority, "queued_at", "id", "not_before"])
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String(255), sa.ForeignKey("jobs.id", name="fk_job_labels_job_id"), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "digest", name="pk_job_labels"),
    )
    op.create_index(
        "ix_job_labels_owner_digest_created_at_job_id", "job_labels", ["owner", "digest", "created_at", "job_id"]
    )
    _label_jobs(op.get_bind())
    op.add_column("job_metrics", sa.Column("train_loss", sa.Float(53), nullable=True))
    op.execute("UPDATE job_metrics SET train_loss = CAST(data ->> 'train_loss' AS DOUBLE PRECISION)")
    op.create_index(
        "ix_job_metrics_job_id_kind_train_loss_step", "job_metrics", ["job_id", "kind", "train_loss", "step"]
    )


def _label_jobs(connection: sa.Connection) -> None:
    """Fill the table with the metadata of existing jobs."""
    columns = [sa.column("id"), sa.column("owner"), sa.column("created_at"), sa.column("metadata", sa.JSON)]
    jobs, after = sa.table("jobs", *columns), ""
    labels = sa.table("job_labels", *map(sa.column, ("job_id", "digest", "owner", "created_at")))
    while rows := connection.execute(
        sa.select(jobs).where(jobs.c.id > after).order_by(jobs.c.id).limit(_AT_ONCE)
    ).all():
        after = rows[-1].id
        pairs = [
            {"job_id": row.id, "digest": _digest_of(*pair), "owner": row.owner, "created_at": row.created_at}
            for row in rows
            for pair in row.metadata.items()
        ]
        if pairs:
            connection.execute(sa.insert(labels), pairs)


def _digest_of(key: str, value: str) -> str:
    return hashlib.sha256(json.dumps([key, value]).encode()).hexdigest()


def downgrade() -> None:
    """Bring the tables back to the revision before."""
    op.drop_index("ix_job_metrics_job_id_kind_train_loss_step", "job_metrics")
    op.drop_column("job_metrics", "train_loss")
    op.drop_index("ix_job_labels_owner_digest_created_at_job_id", "job_labels")
    op.drop_table("job_labels")
    op.drop_index("ix_jobs_turn", "jobs")
    op.create_index("ix_jobs_turn", "jobs", ["state", "owner", sa.text("priority DESC"), "queued_at", "id"])
    op.drop_index("ix_jobs_owner_dataset_id_created_at_id", "jobs")
    op.drop_index("ix_jobs_owner_state_created_at_id", "jobs")
