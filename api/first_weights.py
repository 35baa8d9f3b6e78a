"""Refuses a job that is to begin with the weights of another network, before it is queued."""

from __future__ import annotations

from sqlalchemy.orm import Session

from alexnet_core.config import TrainConfig
from alexnet_core.network.geometry import find_misfits, weight_shapes
from trainyard.artifacts.checkpoints import get_checkpoint
from trainyard.artifacts.datasets import facts_of
from trainyard.artifacts.retries import read_config
from trainyard.database.tables import Dataset
from trainyard.errors import InvalidRequest
from trainyard.jobs.jobs import NewJob, get_job


def check_first_weights(session: Session, owner: str, dataset: Dataset, new: NewJob, *, param: str) -> None:
    """Check that a job fits the checkpoint of its `init_from`, if it has one; the classes may be others.

    Args:
        session: in which the checkpoint is held.
        owner: whose.
        dataset: that the job will train on.
        new: the job.
        param: what a refusal names.

    Raises:
        InvalidRequest: the networks differ, or nobody can tell.
    """
    if new.init_from is None:
        return
    maker = get_job(session, owner, get_checkpoint(session, owner, new.init_from).job_id)
    own = _shapes(TrainConfig.model_validate(new.config), dataset)
    others = _shapes(read_config(maker), maker.dataset)
    for name in find_misfits(own, others)[:1]:
        raise InvalidRequest(
            f"checkpoint {new.init_from} is of another network: its {name} is {_size(others.get(name))}, the job's "
            f"{_size(own.get(name))}. Take the recipe ({maker.recipe}) and overrides of job {maker.id}, which made it",
            param=param,
        )


def _shapes(config: TrainConfig, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    facts = facts_of(dataset)
    return weight_shapes(config, facts.num_classes, config.channels or facts.channels)


def _size(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a number"
