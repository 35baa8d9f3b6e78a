"""Aliases that can be moved: canary, shadow, history, and what was answered for them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KEY = (("owner", sa.String(255)), ("name", sa.String(255)), ("version", sa.BigInteger))
_NAMED = ("canary_id", "shadow_id", "previous_id")


def upgrade() -> None:
    """Bring the tables to this revision."""
    rows = _take_rows()
    op.create_table(
        "aliases",
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("checkpoint_id", sa.String(255), nullable=False),
        sa.Column("canary_id", sa.String(255), nullable=True),
        sa.Column("canary_share", sa.Float(53), nullable=True),
        sa.Column("shadow_id", sa.String(255), nullable=True),
        sa.Column("previous_id", sa.String(255), nullable=True),
        sa.Column("previous_version", sa.BigInteger, nullable=True),
        sa.Column("moved_by", sa.String(255), nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        *(_names(column) for column in ("checkpoint_id", *_NAMED)),
        sa.PrimaryKeyConstraint("owner", "name", name="pk_aliases"),
    )
    for column in ("checkpoint_id", *_NAMED):
        op.create_index(f"ix_aliases_{column}", "aliases", [column])
    op.create_table(
        "alias_moves",
        *(sa.Column(name, kind, nullable=False, autoincrement=False) for name, kind in _KEY),
        sa.Column("action", sa.String(255), nullable=False),
        sa.Column("checkpoint_id", sa.String(255), nullable=True),
        sa.Column("canary_id", sa.String(255), nullable=True),
        sa.Column("canary_share", sa.Float(53), nullable=True),
        sa.Column("shadow_id", sa.String(255), nullable=True),
        sa.Column("previous_version", sa.BigInteger, nullable=True),
        sa.Column("moved_by", sa.String(255), nullable=False),
        sa.Column("restored_version", sa.BigInteger, nullable=True),
        sa.Column("request_id", sa.String(255), nullable=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", "version", name="pk_alias_moves"),
    )
    op.create_table(
        "alias_counts",
        *(sa.Column(name, kind, nullable=False, autoincrement=False) for name, kind in _KEY),
        sa.Column("side", sa.String(255), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("answers", "errors", "agreed", "dropped")),
        sa.Column("latencies", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", "version", "side", name="pk_alias_counts"),
    )
    for owner, name, checkpoint_id, updated_at in rows:
        key = {"owner": owner, "name": name, "version": 1, "checkpoint_id": checkpoint_id, "moved_by": owner}
        op.execute(_insert("aliases", key | {"updated_at": updated_at}))
        op.execute(_insert("alias_moves", key | {"action": "move", "at": updated_at}))


def downgrade() -> None:
    """Bring the tables back to the revision before. An alias keeps the checkpoint that it names, and no more."""
    rows = _take_rows()
    op.drop_table("alias_moves")
    op.drop_table("alias_counts")
    op.create_table(
        "aliases",
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("checkpoint_id", sa.String(255), nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        _names("checkpoint_id"),
        sa.PrimaryKeyConstraint("owner", "name", name="pk_aliases"),
    )
    op.create_index("ix_aliases_checkpoint_id", "aliases", ["checkpoint_id"])
    for row in rows:
        op.execute(_insert("aliases", dict(zip(("owner", "name", "checkpoint_id", "updated_at"), row, strict=True))))


def _take_rows() -> list[tuple[str, str, str, float]]:
    """Return the aliases and drop their table: SQLite adds no foreign key to one that is there."""
    found = op.get_bind().execute(sa.text("SELECT owner, name, checkpoint_id, updated_at FROM aliases"))
    rows = [(row.owner, row.name, row.checkpoint_id, row.updated_at) for row in found]
    op.drop_table("aliases")
    return rows


def _names(column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["checkpoints.id"], name=f"fk_aliases_{column}")


def _insert(table: str, values: dict[str, object]) -> sa.Insert:
    columns: list[sa.ColumnClause[object]] = [sa.column(name) for name in values]
    return sa.table(table, *columns).insert().values(values)
