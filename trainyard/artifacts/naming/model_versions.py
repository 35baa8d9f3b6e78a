"""Models with versions, as the Open Inference Protocol names them.

A job's versions are its epochs, an alias's its moves, and those of `latest` are publication numbers. A checkpoint has
one version, `1`.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from alexnet_core.layout import CheckpointKind
from trainyard.artifacts.aliases import LATEST, get_alias, is_alias_name, list_aliases
from trainyard.artifacts.checkpoints import get_checkpoint, get_latest, resolve_model
from trainyard.database.ids import has_form
from trainyard.database.tables import AliasMove, Checkpoint
from trainyard.errors import CheckpointNotFound, NoCheckpoint
from trainyard.jobs.jobs import get_job
from trainyard.states import CheckpointStatus

ONLY = "1"  #: the version of what has one
MAX_JOBS = 100  #: in the list of models, those with the newest checkpoints
MAX_VERSIONS = 100
_MAX_NUMBER = 2**53


class NamedModel(NamedTuple):
    """A name that requests may use, and what it stands for now."""

    name: str
    version: str
    checkpoint_id: str


def version_of(reference: str, *, version: int | None, epoch: int) -> str:
    """Return the version of the model that answered.

    Args:
        reference: that the request named.
        version: of the alias or of `latest`.
        epoch: of the checkpoint.
    """
    if version is not None:
        return str(version)
    return ONLY if has_form(reference, "ckpt") else str(epoch)


def resolve_version(session: Session, owner: str, name: str, version: str) -> str:
    """Return the reference, as in `?model=`, of one version of a model.

    Raises:
        CheckpointNotFound: there is no such version, or its checkpoint is gone.
        ServiceError: what `checkpoints.resolve_model` raises.
    """
    number = int(version) if version.isdecimal() and version.isascii() and int(version[:17]) <= _MAX_NUMBER else None
    if number is not None and name == LATEST:
        published = select(Checkpoint.id).where(Checkpoint.owner == owner, Checkpoint.publication == number)
        found = session.scalar(published)
    elif number is not None and is_alias_name(name):
        get_alias(session, owner, name, param="model")
        move = session.get(AliasMove, (owner, name, number))
        found = None if move is None else move.checkpoint_id
    elif number is not None and has_form(name, "job"):
        found = resolve_model(session, owner, f"{name}@epoch-{number}").id if number < 10**6 else None
    else:
        found = resolve_model(session, owner, name).id if version == ONLY else None
    if found is None:
        raise CheckpointNotFound(f"model {name[:100]!r} has no version {version[:40]!r}", param="model")
    return get_checkpoint(session, owner, found).id


def list_versions(session: Session, owner: str, name: str) -> list[str]:
    """Return the versions of a model that can be asked for: a job's newest hundred, of others the one that answers.

    Raises:
        ServiceError: what `checkpoints.resolve_model` raises.
    """
    if name == LATEST:
        return [str(get_latest(session, owner).publication)]
    if is_alias_name(name):
        return [str(get_alias(session, owner, name, param="model").version)]
    if not has_form(name, "job") or "@" in name:
        resolve_model(session, owner, name)
        return [ONLY]
    kept = (Checkpoint.status == CheckpointStatus.COMMITTED, Checkpoint.kind == CheckpointKind.EPOCH)
    of_job = select(Checkpoint.epoch).where(Checkpoint.job_id == get_job(session, owner, name).id, *kept)
    epochs = session.scalars(of_job.distinct().order_by(Checkpoint.epoch.desc()).limit(MAX_VERSIONS)).all()
    return [str(epoch) for epoch in reversed(epochs)]


def list_models(session: Session, owner: str) -> list[NamedModel]:
    """Return what can be named: `latest`, all aliases, and the jobs with the newest checkpoints, each at its best."""
    models = []
    try:
        latest = get_latest(session, owner)
        models.append(NamedModel(LATEST, str(latest.publication), latest.id))
    except NoCheckpoint:
        pass
    aliases = list_aliases(session, owner, limit=100).items
    models += [NamedModel(row.name, str(row.version), row.checkpoint_id) for row in aliases]
    published = (Checkpoint.owner == owner, Checkpoint.status == CheckpointStatus.COMMITTED)
    newest = select(Checkpoint.job_id).where(*published, Checkpoint.publication.is_not(None))
    ids = session.scalars(newest.order_by(Checkpoint.publication.desc()).limit(3 * MAX_JOBS)).all()
    for job_id in list(dict.fromkeys(ids))[:MAX_JOBS]:
        best = resolve_model(session, owner, job_id)
        models.append(NamedModel(job_id, str(best.epoch), best.id))
    return models
