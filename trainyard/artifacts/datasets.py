"""Datasets in the database: the built-in ones, their packs, and who may use which. `dataset_intake` makes others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, case, delete, exists, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from alexnet_core.config import DatasetFacts
from alexnet_core.layout import pack_key
from trainyard.database.connection import Database, now
from trainyard.database.pages import Page, get_page
from trainyard.database.tables import Dataset, Job
from trainyard.errors import DatasetNotFound, DatasetRejected
from trainyard.jobs.yard_log import tell
from trainyard.states import DatasetState, WorkKind, YardEventKind

_NAMING_KINDS = (WorkKind.TRAIN, WorkKind.PREDICT)


def register_builtins(database: Database, builtins: Mapping[str, DatasetFacts]) -> None:
    """Register the built-in datasets that the database lacks. Several processes may do so at once."""
    with database.reading() as session:
        known = set(session.scalars(select(Dataset.id)))
    for name, facts in builtins.items():
        if builtin_id(name) not in known:
            _register_builtin(database, name, facts)


def _register_builtin(database: Database, name: str, facts: DatasetFacts) -> None:
    try:
        with database.writing() as session:
            session.add(
                Dataset(
                    id=builtin_id(name),
                    owner=None,
                    name=name,
                    state=DatasetState.REGISTERED,
                    digest=None,
                    facts=facts.model_dump(mode="json"),
                    report=None,
                    key=pack_key(builtin_id(name)),
                    size_bytes=None,
                    created_at=now(),
                    ready_at=None,
                )
            )
    except IntegrityError:
        pass  # another process was faster


def builtin_id(name: str) -> str:
    """Return the id of a built-in dataset, which is the same in every yard."""
    return f"ds_{name}"


def mark_ready(session: Session, dataset_id: str, *, digest: str, facts: dict[str, Any], size_bytes: int) -> None:
    """Mark a dataset as ready. The first digest is kept, even if another process prepares the pack again."""
    unmade = update(Dataset).where(Dataset.id == dataset_id, Dataset.digest.is_(None))
    values = {"digest": digest, "facts": facts, "size_bytes": size_bytes, "ready_at": now()}
    statement = unmade.values(state=DatasetState.READY, **values).returning(Dataset.owner)
    for owner in session.scalars(statement.execution_options(synchronize_session=False)).all():
        tell(session, owner, YardEventKind.DATASET, dataset_id)


def get_dataset(session: Session, owner: str, reference: str, *, param: str = "dataset") -> Dataset:
    """Return a dataset by id or, if none has it, the newest of that name: the owner's own or a built-in one.

    Raises:
        DatasetNotFound: there is none, or it is another owner's.
    """
    query = _visible(owner).where(or_(Dataset.id == reference, Dataset.name == reference))
    is_id = case((Dataset.id == reference, 1), else_=0)
    newest = query.order_by(is_id.desc(), Dataset.created_at.desc(), Dataset.id.desc()).limit(1)
    # PostgreSQL refuses a text with a NUL in it, both drivers a lone surrogate
    found = session.scalars(newest).one_or_none() if reference.isprintable() else None
    if found is None:
        raise DatasetNotFound(f"there is no dataset {reference!r}: `GET /datasets` lists them", param=param)
    return found


def hold_dataset(session: Session, owner: str, reference: str, *, param: str = "dataset") -> Dataset:
    """Return a dataset that is not deleted, and changes no state, until this transaction has recorded who needs it.

    Raises:
        DatasetNotFound: see `get_dataset`.
        DatasetRejected: nobody can use it.
    """
    found = get_dataset(session, owner, reference, param=param)
    held = _visible(owner).where(Dataset.id == found.id).with_for_update(read=True, key_share=True)
    dataset = session.scalars(held.execution_options(populate_existing=True)).one_or_none()
    if dataset is None:
        raise DatasetNotFound(f"dataset {found.id} was deleted just now", param=param)
    refuse_rejected(dataset, param=param)
    return dataset


def refuse_rejected(dataset: Dataset, *, param: str = "dataset") -> None:
    """Refuse a dataset that nobody can use.

    Raises:
        DatasetRejected: it is one.
    """
    if dataset.state is DatasetState.REJECTED:
        reason = (dataset.error or {}).get("message") or "see its report"
        raise DatasetRejected(f"dataset {dataset.id} was rejected: {reason}", param=param)


def is_coming(dataset: Dataset) -> bool:
    """Whether a dataset is still uploaded or validated, so that nothing is known about its images."""
    return dataset.state in {DatasetState.UPLOADING, DatasetState.VALIDATING}


def list_datasets(session: Session, owner: str, *, limit: int, after: str | None = None) -> Page[Dataset]:
    """Return a page of the datasets that an owner may use, newest first."""
    return get_page(session, _visible(owner), Dataset, limit=limit, after=after)


def is_named(owner: str, dataset_id: str) -> ColumnElement[bool]:
    """Build the condition that a job or a prediction, ended or not, names a dataset."""
    return exists().where(Job.owner == owner, Job.kind.in_(_NAMING_KINDS), Job.dataset_id == dataset_id)


def forget_unseen(session: Session, owner: str, dataset_id: str) -> None:
    """Remove the row of a deleted dataset if nothing names it any more."""
    unseen = (Dataset.id == dataset_id, Dataset.state == DatasetState.DELETED, ~is_named(owner, dataset_id))
    session.execute(delete(Dataset).where(*unseen).execution_options(synchronize_session=False))


def facts_of(dataset: Dataset) -> DatasetFacts:
    """Return what is known about a dataset's images and classes."""
    return DatasetFacts.model_validate(dataset.facts)


def _visible(owner: str) -> Select[Dataset]:
    mine = or_(Dataset.owner == owner, Dataset.owner.is_(None))
    return select(Dataset).where(mine, Dataset.state != DatasetState.DELETED)
