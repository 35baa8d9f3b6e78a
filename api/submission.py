"""Submits jobs for `POST /jobs` and `POST /jobs/{id}/retry`, and datasets for `POST /datasets`.

What is submitted is checked, and made only once for an Idempotency-Key. The routes only read the request and write the
answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Response
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from alexnet_core.config import TrainConfig
from alexnet_core.errors import ConfigError
from alexnet_core.network.geometry import describe, find_misfits, weight_shapes
from alexnet_core.recipes import get_recipe, list_recipes, resolve_to_json
from api.reading.dataset_reader import describe_datasets
from api.reading.job_reader import describe_jobs
from api.schemas.datasets import DatasetRead
from api.schemas.jobs import JobCreate, JobRead, JobRetry
from api.services import Services
from trainyard import failpoints
from trainyard.artifacts import dataset_intake, datasets, quotas, retries, uploads
from trainyard.artifacts.checkpoints import get_checkpoint
from trainyard.artifacts.dataset_intake import NewDataset
from trainyard.artifacts.quotas import Quota
from trainyard.database.schema import check_revision
from trainyard.database.tables import Dataset, Job
from trainyard.errors import Conflict, DatasetNotFound, InvalidRequest
from trainyard.jobs import idempotency, jobs
from trainyard.jobs.jobs import NewJob

CREATE_ROUTE = "POST /jobs"
RETRY_ROUTE = "POST /jobs/{job_id}/retry"
DATASET_ROUTE = "POST /datasets"
TRIES = 3  # another request with the same key may be committed between our look and our write


def tell_where(response: Response, path: str, *, is_new: bool) -> None:
    """Set the headers that say where the result of a request is, and the status if an earlier request made it."""
    if not is_new:
        response.status_code = 200
        response.headers["Idempotent-Replayed"] = "true"
    response.headers["Location"] = path


@dataclass(frozen=True)
class Submitted:
    """A job in the queue, and whether this request made it."""

    job: JobRead
    is_new: bool  #: False: the same request made it before


def submit_job(services: Services, owner: str, body: JobCreate, key: str | None) -> Submitted:
    """Queue a new job.

    Args:
        services: of this process.
        owner: whose job it is.
        body: what was asked for.
        key: the Idempotency-Key, if there is one.

    Raises:
        ServiceError: an id is unknown, the config can't be trained, or the key belongs to another request.
        CoreError: the recipe is unknown, or can't be trained with these overrides.
    """

    def submit(session: Session) -> Job:
        dataset = datasets.hold_dataset(session, owner, body.dataset)
        new = _complete(body, dataset, services.settings.max_failures)
        if body.init_from is not None:
            retries.hold_checkpoint(session, owner, body.init_from, param="init_from")
        if not new.waits_for_dataset:  # the trainer checks it again
            check_first_weights(session, owner, dataset, new, param="init_from")
        return jobs.submit(session, owner, dataset, new)

    return _submit_job_once(services, owner, Request(CREATE_ROUTE, key, body.model_dump(mode="json")), submit)


def submit_retry(services: Services, owner: str, job_id: str, body: JobRetry, key: str | None) -> Submitted:
    """Queue a job that has ended again, as a new job.

    Args:
        services: of this process.
        owner: whose job it is.
        job_id: the job that has ended.
        body: where the new one begins, and what differs.
        key: the Idempotency-Key, if there is one.

    Raises:
        ServiceError: the job can't be retried so, or the key belongs to another request.
        CoreError: it can't be trained with these overrides.
    """

    def submit(session: Session) -> Job:
        parent, new = retries.prepare_retry(
            session,
            owner,
            job_id,
            origin=body.origin,
            overrides=body.overrides,
            max_failures=services.settings.max_failures,
        )
        datasets.hold_dataset(session, owner, parent.its_dataset.id)
        facts, config = datasets.facts_of(parent.its_dataset), TrainConfig.model_validate(new.config)
        describe(config, facts.num_classes, config.channels or facts.channels)  # refuses what can't be built
        check_first_weights(session, owner, parent.its_dataset, new, param="overrides")
        return jobs.submit(session, owner, parent.its_dataset, new)

    content = body.model_dump(mode="json") | {"job_id": job_id}
    return _submit_job_once(services, owner, Request(RETRY_ROUTE, key, content), submit)


@dataclass(frozen=True)
class SubmittedDataset:
    """A dataset, and whether this request made it."""

    dataset: DatasetRead
    is_new: bool


def submit_dataset(
    services: Services, owner: str, new: NewDataset, content: dict[str, Any], key: str | None
) -> SubmittedDataset:
    """Submit a dataset, to be validated by a worker; or find the one that the same file already made.

    Args:
        services: of this process.
        owner: whose it is.
        new: the dataset.
        content: what was asked for: it identifies the request.
        key: the Idempotency-Key, if there is one.

    Raises:
        ServiceError: an id is unknown, or the key belongs to another request.
    """
    is_there = False

    def submit(session: Session) -> str:
        nonlocal is_there
        settings, upload_id = services.settings, new.source.get("upload")
        quotas.hold_owner(session, owner)
        known = new if upload_id is None else _with_upload(session, owner, new, upload_id)
        same = dataset_intake.find_of_same_file(session, owner, known)
        is_there = same is not None
        if same is not None:
            if (same.source or {}).get("upload") != upload_id:
                uploads.release(session, str(upload_id))  # another dataset may be made of it
            return same.work_id
        quotas.check_dataset(session, owner, Quota.of(settings))
        return dataset_intake.submit_dataset(session, owner, known, max_failures=settings.max_failures).work_id

    work_id, is_new = submit_once(services, owner, Request(DATASET_ROUTE, key, content), submit)
    with services.database.reading() as session:
        work = session.get(Job, work_id)
        if work is None or work.dataset_id is None:
            raise DatasetNotFound("the dataset was deleted just now")
        dataset = datasets.get_dataset(session, owner, work.dataset_id)
        described = describe_datasets(session, services.settings, [dataset])[0]
        return SubmittedDataset(described, is_new and not is_there)


def _with_upload(session: Session, owner: str, new: NewDataset, upload_id: str) -> NewDataset:
    """Keep the dataset's upload for it, and note what is known of the file."""
    is_whole = uploads.hold(session, owner, upload_id)
    file = uploads.get_upload(session, owner, upload_id, param="upload")
    known = {"sha256": file.sha256} if is_whole else {}
    told = {"file_name": file.name, "size_bytes": file.size_bytes}
    return replace(new, is_whole=is_whole, source=new.source | known | told)


def check_first_weights(session: Session, owner: str, dataset: Dataset, new: NewJob, *, param: str) -> None:
    """Check that a job fits the checkpoint of its `init_from`, if it has one. The classes may differ.

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
    maker = jobs.get_job(session, owner, get_checkpoint(session, owner, new.init_from).job_id)
    own = _shapes(TrainConfig.model_validate(new.config), dataset)
    others = _shapes(retries.read_config(maker), maker.its_dataset)
    for name in find_misfits(own, others)[:1]:
        raise InvalidRequest(
            f"checkpoint {new.init_from} is of another network: its {name} is {_size(others.get(name))}, the job's "
            f"{_size(own.get(name))}. Take the recipe ({maker.recipe}) and overrides of job {maker.id}, which made it",
            param=param,
        )


def _complete(body: JobCreate, dataset: Dataset, max_failures: int) -> NewJob:
    is_coming = datasets.is_coming(dataset)
    if is_coming:
        _check_roughly(body.recipe, body.overrides)
        recipe, config = "", {"recipe": body.recipe, "overrides": body.overrides}
    else:
        recipe, config = resolve_to_json(body.recipe, body.overrides, datasets.facts_of(dataset))
    return NewJob(
        recipe=recipe,
        config=config,
        waits_for_dataset=is_coming,
        seed=secrets.randbits(63) >> 31 if body.seed is None else body.seed,
        max_failures=max_failures,
        name=body.name,
        metadata=body.metadata,
        priority=body.priority,
        max_runtime_s=body.max_runtime_s,
        init_from=body.init_from,
    )


def _check_roughly(recipe: str | None, overrides: dict[str, Any]) -> None:
    """Refuse overrides that fit no recipe, before the dataset is known and all else can be checked."""
    problem: ConfigError | None = None
    for candidate in list_recipes() if recipe is None else [get_recipe(recipe)]:
        try:
            candidate.config.with_overrides(overrides)
        except ConfigError as exc:
            problem = exc
        else:
            return
    assert problem is not None
    raise problem


@dataclass(frozen=True)
class Request:
    """What identifies a request, so that its repetition is recognised."""

    route: str
    key: str | None
    content: dict[str, Any]

    def find_job_id(self, session: Session, owner: str) -> str | None:
        """Return the job that the same request made before."""
        if not self.key:
            return None
        return idempotency.find_job_id(session, owner, self.route, self.key, self.content)

    def remember(self, session: Session, owner: str, job_id: str) -> None:
        """Record that the key, if there is one, belongs to the job of this transaction."""
        if self.key:
            idempotency.remember(session, owner, self.route, self.key, self.content, job_id)


def _submit_job_once(services: Services, owner: str, request: Request, submit: Callable[[Session], Job]) -> Submitted:
    job_id, is_new = submit_once(services, owner, request, lambda session: submit(session).id)
    with services.database.reading() as session:
        job = describe_jobs(session, services.settings, [jobs.get_job(session, owner, job_id)])[0]
    return Submitted(job, is_new)


def submit_once(services: Services, owner: str, request: Request, submit: Callable[[Session], str]) -> tuple[str, bool]:
    """Return the id of a row of `jobs`, and whether this request made it; wake who takes it."""
    made = _find_or_submit(services, owner, request, submit)
    failpoints.hit("after_commit")
    services.reconciler.wake()
    return made


def _find_or_submit(
    services: Services, owner: str, request: Request, submit: Callable[[Session], str]
) -> tuple[str, bool]:
    """Do so. Row and key are written in one transaction."""
    for _ in range(TRIES):
        if request.key:  # a repetition writes nothing, so it waits for no writer
            with services.database.reading() as session:
                known = request.find_job_id(session, owner)
            if known is not None:
                return known, False
        try:
            with services.database.writing() as session:
                check_revision(session)  # workers of this release would not take the job
                known = request.find_job_id(session, owner)
                if known is not None:
                    return known, False
                job_id = submit(session)
                request.remember(session, owner, job_id)
                failpoints.hit("before_commit")
                return job_id, True
        except IntegrityError:
            continue
    raise Conflict("requests with this Idempotency-Key are in flight: try again", retry_after_s=1)


def _shapes(config: TrainConfig, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    facts = datasets.facts_of(dataset)
    return weight_shapes(config, facts.num_classes, config.channels or facts.channels)


def _size(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a number"
