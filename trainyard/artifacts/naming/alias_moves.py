"""Moves of aliases: what an alias names from now on, written with its history in one transaction.

Whoever moves an alias first makes sure that the checkpoints can answer. A move does not depend on that: it locks the
rows of the checkpoints, so that none of them is pruned or deleted before the alias names it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from trainyard.artifacts.aliases import MAX_ALIASES, check_alias_name, get_alias
from trainyard.artifacts.checkpoints import get_checkpoint, resolve_model
from trainyard.database.connection import now
from trainyard.database.tables import Alias, AliasMove, Checkpoint
from trainyard.errors import (
    CheckpointNotFound,
    CheckpointPruned,
    Conflict,
    InvalidRequest,
    ServiceError,
)
from trainyard.serving_errors import AliasMoved, NothingToRollBackTo
from trainyard.states import AliasAction, CheckpointStatus


@dataclass(frozen=True)
class Target:
    """What an alias names: checkpoints by their ids."""

    checkpoint_id: str
    canary_id: str | None = None
    canary_share: float | None = None
    shadow_id: str | None = None

    @property
    def by_field(self) -> dict[str, str]:
        """The ids by the field of the request that gives each, the stable one first."""
        fields = {"checkpoint": self.checkpoint_id, "canary.checkpoint": self.canary_id, "shadow": self.shadow_id}
        return {field: checkpoint_id for field, checkpoint_id in fields.items() if checkpoint_id is not None}


@dataclass(frozen=True)
class Mover:
    """Who moves an alias, and by which request."""

    owner: str
    request_id: str | None = None


def target_of(alias: Alias) -> Target:
    """Return what an alias names now."""
    return Target(alias.checkpoint_id, alias.canary_id, alias.canary_share, alias.shadow_id)


def resolve_target(
    session: Session, owner: str, *, checkpoint: str, canary: tuple[str, float] | None, shadow: str | None
) -> Target:
    """Return the checkpoints that a request for a move names by references, as in `?model=`.

    Raises:
        InvalidRequest: two of them are the same checkpoint, or a reference has no known form.
        ServiceError: what `checkpoints.resolve_model` raises, with the field as `param`.
    """
    stable_id = _resolve(session, owner, checkpoint, "checkpoint")
    canary_id = None if canary is None else _resolve(session, owner, canary[0], "canary.checkpoint")
    shadow_id = None if shadow is None else _resolve(session, owner, shadow, "shadow")
    target = Target(stable_id, canary_id, None if canary is None else canary[1], shadow_id)
    for field, checkpoint_id in list(target.by_field.items())[1:]:
        if checkpoint_id == stable_id:
            raise InvalidRequest(f"{field} is the stable checkpoint itself, {stable_id}: name another", param=field)
    return target


def _resolve(session: Session, owner: str, reference: str, field: str) -> str:
    try:
        return resolve_model(session, owner, reference).id
    except ServiceError as exc:
        exc.param = field
        raise


def move_alias(session: Session, mover: Mover, name: str, target: Target) -> Alias:
    """Make an alias name these checkpoints; an alias that is not there is made. Repeating a move changes nothing.

    Raises:
        InvalidRequest: no alias may have this name.
        AliasMoved: somebody else moved it at this moment.
        Conflict: the owner has as many aliases as are allowed.
        CheckpointNotFound, CheckpointPruned: one of them can't be used any more.
    """
    check_alias_name(name)
    before = session.get(Alias, (mover.owner, name))
    if before is None:
        _refuse_too_many(session, mover.owner)
        return _write(session, mover, name, None, target, AliasAction.MOVE)
    if target_of(before) == target:
        return before
    return _write(session, mover, name, before, target, AliasAction.MOVE)


def find_rollback(
    session: Session, owner: str, name: str, version: int | None = None
) -> tuple[Target, AliasMove | None]:
    """Return what a rollback would make an alias name: one checkpoint, without canary and shadow.

    Args:
        session: any.
        owner: whose.
        name: of the alias.
        version: the move whose stable checkpoint is named again; None: an alias with a canary or a shadow keeps its
            stable one, another goes back to the stable one before.

    Returns:
        That, and the move whose checkpoint it is; None: the alias's own.

    Raises:
        AliasNotFound: there is no such alias.
        NothingToRollBackTo: it has named no other checkpoint before.
        InvalidRequest: there was no such move, or it was the alias's end.
        CheckpointNotFound, CheckpointPruned: the checkpoint is gone.
    """
    alias = get_alias(session, owner, name)
    if version is None and (alias.canary_id or alias.shadow_id):
        return Target(alias.checkpoint_id), None
    wanted = alias.previous_version if version is None else version
    if wanted is None:
        raise NothingToRollBackTo(f"alias {name!r} has named no other checkpoint before: move it with `PUT`")
    move = session.get(AliasMove, (owner, name, wanted))
    if move is None or move.checkpoint_id is None:
        raise InvalidRequest(
            f"version is {wanted}: `GET /aliases/{name}/history` lists the moves that can be named", param="version"
        )
    _check_still_there(session, owner, name, move)
    return Target(move.checkpoint_id), move


def _check_still_there(session: Session, owner: str, name: str, move: AliasMove) -> None:
    try:
        get_checkpoint(session, owner, move.checkpoint_id or "")
    except (CheckpointNotFound, CheckpointPruned) as exc:
        raise type(exc)(
            f"version {move.version} of alias {name!r} named checkpoint {move.checkpoint_id}, now gone: "
            "name another version, or move the alias with `PUT`",
            param="version",
        ) from exc


def roll_back(session: Session, mover: Mover, name: str, target: Target, move: AliasMove | None) -> Alias:
    """Make an alias name what `find_rollback` found.

    Raises:
        AliasNotFound: it was deleted meanwhile.
        AliasMoved: somebody else moved it at this moment.
        CheckpointNotFound, CheckpointPruned: the checkpoint is gone.
    """
    before = get_alias(session, mover.owner, name)
    if target_of(before) == target:
        return before
    return _write(session, mover, name, before, target, AliasAction.ROLLBACK, restores=move)


def delete_alias(session: Session, mover: Mover, name: str) -> None:
    """Remove an alias. Its history stays, and an alias made anew under its name goes on with it.

    Raises:
        AliasNotFound: there is no such alias.
        AliasMoved: somebody else moved it at this moment.
    """
    alias = _lock(session, get_alias(session, mover.owner, name))
    _record(session, mover, name, alias.version + 1, AliasAction.DELETE)
    session.delete(alias)
    _flush(session, name)


def _refuse_too_many(session: Session, owner: str) -> None:
    if (session.scalar(select(func.count()).where(Alias.owner == owner)) or 0) >= MAX_ALIASES:
        raise Conflict(f"you have {MAX_ALIASES} aliases, and no more are allowed: delete one first", param="name")


def _write(
    session: Session,
    mover: Mover,
    name: str,
    before: Alias | None,
    target: Target,
    action: AliasAction,
    *,
    restores: AliasMove | None = None,
) -> Alias:
    """Write a move. Checkpoints are locked before the alias, by their ids, as by a commit and a deletion."""
    previous_id, previous_version = _previous(session, before, target, restores)
    keeps = None if before is None else before.checkpoint_id
    _lock_checkpoints(session, mover.owner, target, {it for it in (previous_id, keeps) if it is not None})
    if before is None:
        version = 1 + (_last_version(session, mover.owner, name) or 0)
        alias = Alias(owner=mover.owner, name=name)
        session.add(alias)
    else:
        alias = _lock(session, before)
        version = alias.version + 1
    alias.version, alias.moved_by, alias.updated_at = version, mover.owner, now()
    alias.checkpoint_id, alias.canary_id = target.checkpoint_id, target.canary_id
    alias.canary_share, alias.shadow_id = target.canary_share, target.shadow_id
    alias.previous_id, alias.previous_version = previous_id, previous_version
    restored = None if restores is None else restores.version
    _record(session, mover, name, version, action, target, previous_version, restored)
    _flush(session, name)
    session.refresh(alias)
    return alias


def _previous(
    session: Session, before: Alias | None, target: Target, restores: AliasMove | None
) -> tuple[str | None, int | None]:
    """Return the checkpoint that a rollback of this move goes to, and the move that named it."""
    if before is None:
        return None, None
    if restores is not None:  # a second rollback goes on from there, not forwards again
        if restores.previous_version is None:
            return None, None
        move = session.get(AliasMove, (before.owner, before.name, restores.previous_version))
        checkpoint_id = None if move is None else _find_kept(session, move.checkpoint_id)
        return checkpoint_id, restores.previous_version
    if before.checkpoint_id == target.checkpoint_id:
        return before.previous_id, before.previous_version
    return before.checkpoint_id, before.version


def _find_kept(session: Session, checkpoint_id: str | None) -> str | None:
    """Return the id if the checkpoint's files are still there, else None."""
    there = (Checkpoint.id == checkpoint_id, Checkpoint.status == CheckpointStatus.COMMITTED)
    return session.scalar(select(Checkpoint.id).where(*there))


def _last_version(session: Session, owner: str, name: str) -> int | None:
    return session.scalar(select(func.max(AliasMove.version)).where(AliasMove.owner == owner, AliasMove.name == name))


def _lock_checkpoints(session: Session, owner: str, target: Target, others: set[str]) -> None:
    """Lock the rows that the alias will refer to, and check that its target can be used.

    Raises:
        CheckpointNotFound, CheckpointPruned: it can't.
    """
    ids = {*target.by_field.values(), *others}
    rows = select(Checkpoint).where(Checkpoint.id.in_(ids)).order_by(Checkpoint.id).with_for_update()
    session.scalars(rows.execution_options(populate_existing=True)).all()
    for field, checkpoint_id in target.by_field.items():
        try:
            get_checkpoint(session, owner, checkpoint_id)
        except (CheckpointNotFound, CheckpointPruned) as exc:
            exc.param = field
            raise


def _lock(session: Session, before: Alias) -> Alias:
    """Lock an alias that was read, if nobody has moved it since.

    Raises:
        AliasMoved: somebody has.
    """
    version = before.version
    mine = select(Alias).where(Alias.owner == before.owner, Alias.name == before.name).with_for_update()
    locked = session.scalars(mine.execution_options(populate_existing=True)).one_or_none()
    if locked is None or locked.version != version:
        raise _moved(before.name)
    return locked


def _record(
    session: Session,
    mover: Mover,
    name: str,
    version: int,
    action: AliasAction,
    target: Target | None = None,
    previous_version: int | None = None,
    restored_version: int | None = None,
) -> None:
    named = {} if target is None else vars(target)
    key = {"owner": mover.owner, "name": name, "version": version, "action": action, "moved_by": mover.owner}
    versions = {"previous_version": previous_version, "restored_version": restored_version}
    session.add(AliasMove(**key, **named, **versions, request_id=mover.request_id, at=now()))


def _flush(session: Session, name: str) -> None:
    try:
        session.flush()
    except IntegrityError as exc:  # two make it at once
        raise _moved(name) from exc


def _moved(name: str) -> AliasMoved:
    return AliasMoved(f"alias {name!r} was moved by somebody else at this moment: look at it and try again")
