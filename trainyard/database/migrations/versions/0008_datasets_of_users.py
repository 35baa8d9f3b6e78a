"""Datasets of users: their validation is leased work beside the jobs."""

import json
import time

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TEXTS, _OBJECTS = ("parent_id", "same_as"), ("source", "options", "error")
_LISTS = (("created_at", "id"), ("state", "created_at", "id"), ("dataset_id", "created_at", "id"), ("claim_number",))
_NO_FACTS = {  # the release before knows facts of every dataset, also of those that can't be used
    "name": "unknown", "num_classes": 2, "class_names": ["-", "--"], "image_px": 64, "channels": 3, "flip_safe": False
}  # fmt: skip
_TURN = ("owner", "priority DESC", "queued_at", "id", "not_before")


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.add_column("jobs", sa.Column("kind", sa.String(255), nullable=False, server_default="train"))
    for columns in _LISTS:
        op.drop_index(_name("owner", *columns), "jobs")
        op.create_index(_name("owner", "kind", *columns), "jobs", ["owner", "kind", *columns])
    _index_turns("state", "kind")
    for name in _TEXTS:
        op.add_column("datasets", sa.Column(name, sa.String(255), nullable=True))
    for name in _OBJECTS:
        op.add_column("datasets", sa.Column(name, sa.JSON(none_as_null=True), nullable=True))
    op.execute("UPDATE datasets SET state = 'rejected', facts = '{}' WHERE state = 'failed'")  # a downgrade left them


def downgrade() -> None:
    """Bring the tables back to the revision before. Datasets of users stay only if they are ready."""
    for table in ("job_events", "idempotency_keys", "outbox"):
        op.execute(f"DELETE FROM {table} WHERE job_id IN (SELECT id FROM jobs WHERE kind <> 'train')")
    op.execute("DELETE FROM jobs WHERE kind <> 'train'")
    waits = "recipe = '' AND state IN ('queued', 'paused')"  # for a dataset that nobody validates any more
    end = "state = 'cancelled', desired = 'cancel', state_reason = 'cancelled', not_before = 0"
    op.execute(f"UPDATE jobs SET {end}, finished_at = {time.time()} WHERE {waits}")
    not_ready = "state IN ('uploading', 'validating', 'rejected', 'deleted')"
    op.execute(f"DELETE FROM datasets WHERE {not_ready} AND id NOT IN (SELECT dataset_id FROM jobs)")
    op.execute(f"UPDATE datasets SET state = 'failed', facts = '{json.dumps(_NO_FACTS)}' WHERE {not_ready}")
    for name in (*_TEXTS, *_OBJECTS):
        op.drop_column("datasets", name)
    _index_turns("state")
    for columns in _LISTS:
        op.drop_index(_name("owner", "kind", *columns), "jobs")
        op.create_index(_name("owner", *columns), "jobs", ["owner", *columns])
    op.drop_column("jobs", "kind")


def _name(*columns: str) -> str:
    return f"ix_jobs_{'_'.join(columns)}"


def _index_turns(*first: str) -> None:
    op.drop_index("ix_jobs_turn", "jobs")
    op.create_index("ix_jobs_turn", "jobs", [*first, *(sa.text(column) for column in _TURN)])
