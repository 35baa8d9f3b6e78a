"""Jobs that begin with a checkpoint of another job: its weights only (`init_from`), or its full state (a retry).

A transaction that starts to use a checkpoint locks its row first, and so does one that gives it up. So neither can miss
the other.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from alexnet_core.config import TrainConfig
from trainyard.artifacts.checkpoints import find_resumable, find_usable, get_checkpoint
from trainyard.database.tables import Checkpoint, Job
from trainyard.errors import (
    CheckpointNotFound,
    CheckpointPruned,
    IllegalTransition,
    InvalidRequest,
    NoCheckpointOfJob,
    NoTrainingState,
)
from trainyard.jobs.jobs import NewJob, get_job
from trainyard.states import JobState

START, LATEST = "start", "latest"
MAX_RUNTIME_S = 366 * 86_400.0
_EXTENSIBLE = ("epochs", "max_runtime_s")


def hold_checkpoint(session: Session, owner: str, checkpoint_id: str, *, param: str) -> Checkpoint:
    """Return a usable checkpoint, locked until this transaction has recorded which job needs it.

    Raises:
        CheckpointNotFound, CheckpointPruned: see `checkpoints.get_checkpoint`.
    """
    try:
        get_checkpoint(session, owner, checkpoint_id)
        row = select(Checkpoint).where(Checkpoint.id == checkpoint_id).with_for_update()
        session.scalars(row.execution_options(populate_existing=True)).one_or_none()
        return get_checkpoint(session, owner, checkpoint_id)
    except (CheckpointNotFound, CheckpointPruned) as exc:
        exc.param = param
        raise


def hold_job(session: Session, owner: str, job_id: str) -> Job:
    """Return a job, locked until the end of this transaction.

    Raises:
        JobNotFound: see `jobs.get_job`.
    """
    get_job(session, owner, job_id)
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    return get_job(session, owner, job_id)


def read_config(job: Job) -> TrainConfig:
    """Return the config of a job.

    Raises:
        InvalidRequest: another version of this program wrote it.
    """
    try:
        return TrainConfig.model_validate_json(json.dumps(job.config))
    except ValidationError as exc:
        problem = exc.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise InvalidRequest(
            f"the config of job {job.id} can't be understood by this version ({reason}): queue a new job"
        ) from exc


def prepare_retry(
    session: Session, owner: str, job_id: str, *, origin: str, overrides: dict[str, Any], max_failures: int
) -> tuple[Job, NewJob]:
    """Return the job to be retried, and the job that retries it, still to be submitted in this transaction.

    Args:
        session: a writing one.
        owner: whose.
        job_id: of a job in a final state.
        origin: `start`, `latest` or the id of one of its checkpoints.
        overrides: fields of the config, and `max_runtime_s`; from a checkpoint they may only extend.
        max_failures: of the new job.

    Raises:
        JobNotFound, CheckpointNotFound, CheckpointPruned: there is no such thing.
        IllegalTransition: the job has not ended.
        NoCheckpointOfJob, NoTrainingState: there is nothing to go on from.
        InvalidRequest, ConfigError: the overrides are wrong, or it ended early and has nothing to go on with.
    """
    parent = hold_job(session, owner, job_id)
    if not parent.state.is_final:
        raise IllegalTransition(f"job {job_id} is {parent.shown_state}: only a job that has ended can be retried")
    changes = dict(overrides)
    max_runtime_s = (
        _checked_runtime(changes.pop("max_runtime_s")) if "max_runtime_s" in changes else parent.max_runtime_s
    )
    checkpoint = None if origin == START else _hold_state(session, owner, parent, origin)
    if checkpoint is not None:
        _refuse_other_overrides(changes)
    if not parent.recipe:
        raise InvalidRequest(f"job {job_id} never had a dataset to train on: queue a new job", param="from")
    config = read_config(parent).with_overrides(changes)
    if checkpoint is not None:
        _refuse_early_end(parent, checkpoint)
        _check_extension(parent, checkpoint, config, max_runtime_s)
    return parent, NewJob(
        recipe=parent.recipe,
        config=config.model_dump(mode="json"),
        seed=parent.seed,
        max_failures=max_failures,
        name=parent.name,
        metadata=dict(parent.labels),
        priority=parent.priority,
        max_runtime_s=max_runtime_s,
        init_from=_held_weights(session, owner, parent) if checkpoint is None else None,
        parent_id=parent.id,
        resume_from=None if checkpoint is None else checkpoint.id,
        dataset_digest=None if checkpoint is None else parent.dataset_digest,
        best=None if checkpoint is None else _best_until(parent, checkpoint),
    )


def _held_weights(session: Session, owner: str, parent: Job) -> str | None:
    """Return the checkpoint that the parent began with, so that a retry from the start is the same job again."""
    if parent.init_from is None:
        return None
    return hold_checkpoint(session, owner, parent.init_from, param="from").id


def _hold_state(session: Session, owner: str, parent: Job, origin: str) -> Checkpoint:
    if origin == LATEST:
        newest = find_resumable(session, parent.id) or find_usable(session, parent.resume_from, with_state=True)
        if newest is None:
            raise NoCheckpointOfJob(f"job {parent.id} has no checkpoint to continue from: retry it from `start`")
        origin = newest.id
    elif find_owner_job(session, origin) != parent.id:
        raise CheckpointNotFound(f"job {parent.id} has no checkpoint {origin!r}", param="from")
    held = hold_checkpoint(session, owner, origin, param="from")
    if not held.has_state or held.state_pruned_at is not None:
        raise NoTrainingState(
            f"checkpoint {origin} has only weights, no longer its training state: retry from `latest`, or queue a job "
            "with `init_from`",
            param="from",
        )
    return held


def find_owner_job(session: Session, checkpoint_id: str) -> str | None:
    """Return the job that made a checkpoint. None: there is no such checkpoint."""
    return session.scalar(select(Checkpoint.job_id).where(Checkpoint.id == checkpoint_id))


def _checked_runtime(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_RUNTIME_S:
        raise InvalidRequest(
            f"overrides.max_runtime_s is {str(value)[:100]}: seconds up to {MAX_RUNTIME_S:.0f}, or null for none",
            param="overrides.max_runtime_s",
        )
    return float(value)


def _refuse_other_overrides(changes: dict[str, Any]) -> None:
    for name in changes:
        if name not in _EXTENSIBLE:
            raise InvalidRequest(
                f"overrides.{name[:100]}: a retry from a checkpoint keeps the job's options; only `epochs` and "
                "`max_runtime_s` may be extended. Retry from `start`, or queue a job with `init_from`",
                param=f"overrides.{name[:100]}",
            )


def _refuse_early_end(parent: Job, checkpoint: Checkpoint) -> None:
    """Refuse a run that validation ended (`schedule.reason_to_end`): it would end again before its first step.

    Such a run is recognised because no other run succeeds with fewer epochs than its config has. A retry from one of
    its earlier checkpoints is allowed: there the run was not over.
    """
    epochs = int(parent.config["epochs"])
    is_last = checkpoint.step >= parent.committed_step
    if parent.state == JobState.SUCCEEDED and is_last and checkpoint.epoch < epochs:
        raise InvalidRequest(
            f"job {parent.id} ended after {checkpoint.epoch} of {epochs} epochs, as validation no longer improved: it "
            "would end again there at once. Queue a job with `init_from`, or retry from `start`",
            param="from",
        )


def _check_extension(parent: Job, checkpoint: Checkpoint, config: TrainConfig, max_runtime_s: float | None) -> None:
    before, limit = int(parent.config["epochs"]), parent.max_runtime_s
    if config.epochs < before:
        raise InvalidRequest(
            f"overrides.epochs is {config.epochs}: it must be at least the {before} of job {parent.id}",
            param="overrides.epochs",
        )
    if checkpoint.epoch >= config.epochs:
        raise InvalidRequest(
            f"checkpoint {checkpoint.id} has all {config.epochs} epochs complete: extend overrides.epochs",
            param="overrides.epochs",
        )
    shorter = max_runtime_s is not None and (limit is None or max_runtime_s < limit)
    if shorter:
        raise InvalidRequest(
            f"overrides.max_runtime_s is {max_runtime_s:g}: it may only be more than that of job {parent.id} "
            f"({'no limit' if limit is None else f'{limit:g}'}), as it counts the time before, too",
            param="overrides.max_runtime_s",
        )
    if max_runtime_s == limit and (parent.error or {}).get("code") == "max_runtime":
        raise InvalidRequest(
            f"job {parent.id} has had its {limit:g} s: extend overrides.max_runtime_s (null: no limit)",
            param="overrides.max_runtime_s",
        )


def _best_until(parent: Job, checkpoint: Checkpoint) -> dict[str, Any] | None:
    return parent.best if parent.best is not None and parent.best["epoch"] <= checkpoint.epoch else None
