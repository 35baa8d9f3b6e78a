"""The tables of aliases: where each points, what moved it, and what was answered for it. `tables` has the others."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from trainyard.database.base import LOCAL_OWNER, Base
from trainyard.states import AliasAction, Side


class Alias(Base):
    """A name for a checkpoint that can be moved. `latest` is not stored: it is the owner's newest publication."""

    __tablename__ = "aliases"

    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, default=1)  #: of its last move; never less, also if made anew
    checkpoint_id: Mapped[str] = mapped_column(ForeignKey("checkpoints.id"), index=True)
    canary_id: Mapped[str | None] = mapped_column(ForeignKey("checkpoints.id"), index=True)
    canary_share: Mapped[float | None]  #: of the requests; over 0, under 1
    shadow_id: Mapped[str | None] = mapped_column(ForeignKey("checkpoints.id"), index=True)
    previous_id: Mapped[str | None] = mapped_column(ForeignKey("checkpoints.id"), index=True)  #: for a rollback
    previous_version: Mapped[int | None] = mapped_column(BigInteger)  #: the move that named it
    moved_by: Mapped[str] = mapped_column(default=LOCAL_OWNER)  #: an owner
    updated_at: Mapped[float]  #: when it was moved last


class AliasMove(Base):
    """One move of an alias. The rows are never changed, and stay when the alias or a checkpoint is deleted."""

    __tablename__ = "alias_moves"

    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    action: Mapped[AliasAction]
    checkpoint_id: Mapped[str | None]  #: this and the next five as in `Alias`, after the move; None: it was deleted
    canary_id: Mapped[str | None]
    canary_share: Mapped[float | None]
    shadow_id: Mapped[str | None]
    previous_version: Mapped[int | None] = mapped_column(BigInteger)
    moved_by: Mapped[str]
    restored_version: Mapped[int | None] = mapped_column(BigInteger)  #: of a rollback: the move whose checkpoint it is
    request_id: Mapped[str | None]
    at: Mapped[float]


class AliasCount(Base):
    """What was answered for an alias by one of its checkpoints since a move. Serving processes add to it."""

    __tablename__ = "alias_counts"

    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    side: Mapped[Side] = mapped_column(primary_key=True)
    answers: Mapped[int] = mapped_column(BigInteger)  #: images
    errors: Mapped[int] = mapped_column(BigInteger)  #: images that it should have answered and could not
    agreed: Mapped[int] = mapped_column(BigInteger)  #: of a shadow's answers: those with the answer's first class
    dropped: Mapped[int] = mapped_column(BigInteger)  #: images that a shadow left out
    latencies: Mapped[dict[str, Any]]  #: number of answers by the class of their latency: see `Counts`
