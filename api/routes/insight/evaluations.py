"""`GET /jobs/{job_id}/evaluation` and `/evaluation/images`: how a job's checkpoints do, in all and image by image.

The evaluation of the best checkpoint on the test images is made at the end of a job. One of another checkpoint or split
is made when it is asked for first, and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Query
from starlette.responses import Response

from alexnet_core.data.inspection.selection import find_label, find_position
from alexnet_core.data.pack import Pack
from alexnet_core.evaluation.job_evaluation import MAX_BYTES, JobEvaluation, parse_last_record
from alexnet_core.insight.methods import PassKind, Split
from alexnet_core.insight.split_answers import ANSWERS, Order, SplitAnswers
from alexnet_core.insight.split_evaluation import evaluate_answers, name_images
from alexnet_core.layout import evaluation_key
from api.downloads.stored_packs import StoredPack
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.validators import NOT_MODIFIED, IfNoneMatch, answer_json
from api.insight.training_data import find_training_data
from api.routes.queries import JobPath, LimitQuery
from api.schemas.base import ListRead
from api.schemas.evaluations import EvaluationRead
from api.schemas.insight import EvaluatedImageRead
from api.services import CallerDep, Services, ServicesDep
from trainyard.artifacts import checkpoints
from trainyard.database.tables import Checkpoint, Job
from trainyard.errors import (
    CheckpointIncompatible,
    CheckpointNotFound,
    CheckpointPruned,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetNotReady,
    DatasetRejected,
    EvaluationNotFound,
    InvalidRequest,
    JobNotFound,
    NoCheckpointOfJob,
    StorageUnavailable,
)
from trainyard.insight_errors import DatasetDiffers, InsightFailed, InsightInProgress, InsightQueueFull
from trainyard.jobs import job_log, jobs
from trainyard.states import JobState
from trainyard.storage.interface import Storage

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)

T = TypeVar("T")

_BY_HAND = (
    "download its best checkpoint and use `python -m alexnet_core evaluate CHECKPOINT --dataset DATASET --label-errors`"
)
_REFUSALS = (
    *(JobNotFound, NoCheckpointOfJob, CheckpointNotFound, CheckpointPruned, CheckpointIncompatible, InvalidRequest),
    *(DatasetNotFound, DatasetNotReady, DatasetRejected, DatasetDiffers),
    *(InsightInProgress, InsightQueueFull, InsightFailed, DatabaseUnavailable, StorageUnavailable),
)
SplitOfEvaluationQuery = Annotated[Split | None, Query(description="The images to evaluate on. Default: `test`.")]
CheckpointOfJobQuery = Annotated[
    str | None, Query(max_length=100, description="Id of a checkpoint of this job. Default: the best one.")
]
_CLASS = "Only images of the class with this name."
_TAKEN_FOR = "Only images that were taken for the class with this name."
_ORDER = "`loss`: the hardest first; `-loss`: the easiest first; `index`: as in the split."


@router.get(
    "/{job_id}/evaluation",
    summary="Evaluate a job, and find wrong labels",
    response_model=EvaluationRead,
    responses=errors.responses(EvaluationNotFound, *_REFUSALS, success=NOT_MODIFIED),
)
async def get_evaluation(
    job_id: JobPath,
    services: ServicesDep,
    caller: CallerDep,
    split: SplitOfEvaluationQuery = None,
    checkpoint: CheckpointOfJobQuery = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return how the best checkpoint does on the test images, and the training images whose label is likely wrong.

    It is made once, at the end of a job that succeeds. With an object store it may appear a few seconds after that.
    With `split` or `checkpoint` another evaluation is made, without the search for wrong labels. As long as that
    takes, the answer is 503 `insight_in_progress`, whose `Retry-After` says when to ask again.
    """
    if split is None and checkpoint is None:
        body = await anyio.to_thread.run_sync(_read_stored, services, caller, job_id)
        return answer_json(body, if_none_match)
    asked = await _Asked.find(services, caller, job_id, checkpoint, split or "test")

    def build(answers: SplitAnswers, pack: Pack) -> bytes:
        found = evaluate_answers(
            answers, pack, epoch=asked.checkpoint.epoch, weights_sha256=asked.checkpoint.weights_sha256,
            chosen_on=asked.chosen_on,
        )  # fmt: skip
        shown = EvaluationRead.of(
            asked.job_id, asked.pack.dataset_id, found, checkpoint_id=asked.checkpoint.id, split=asked.split
        )
        return shown.model_dump_json().encode()

    return answer_json(await asked.answer(build), if_none_match)


@router.get(
    "/{job_id}/evaluation/images",
    summary="List evaluated images",
    response_model=ListRead[EvaluatedImageRead],
    responses=errors.responses(*_REFUSALS, success=NOT_MODIFIED),
)
async def list_evaluated_images(
    job_id: JobPath,
    services: ServicesDep,
    caller: CallerDep,
    true: Annotated[str | None, Query(max_length=200, description=_CLASS)] = None,
    predicted: Annotated[str | None, Query(max_length=200, description=_TAKEN_FOR)] = None,
    order: Annotated[Order, Query(description=_ORDER)] = "loss",
    split: SplitOfEvaluationQuery = None,
    checkpoint: CheckpointOfJobQuery = None,
    limit: LimitQuery = 20,
    after: Annotated[
        str | None,
        Query(pattern=r"^(train|validation|test)-[0-9]{1,12}$", description="`last_id` of the previous page."),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a page of the images behind an evaluation: all, or those of a cell of the confusion matrix.

    The first request for a checkpoint and a split lets all images be computed. As long as that takes, the answer is
    503 `insight_in_progress`, whose `Retry-After` says when to ask again.
    """
    asked = await _Asked.find(services, caller, job_id, checkpoint, split or "test")

    def build(answers: SplitAnswers, pack: Pack) -> bytes:
        rows = answers.select(
            label=_find_class(pack, true, "true"), predicted=_find_class(pack, predicted, "predicted"), order=order
        ).tolist()
        first = 0 if after is None else _find_place(answers, pack, rows, after) + 1
        images = [
            EvaluatedImageRead(
                **dict(image), id=f"{image.split}-{image.index}",
                url=f"/datasets/{asked.pack.dataset_id}/images/{image.split}/{image.index}",
            )
            for image in name_images(answers, pack, rows[first : first + limit])
        ]  # fmt: skip
        page = ListRead[EvaluatedImageRead].of(images, has_more=first + limit < len(rows))
        return page.model_dump_json().encode()

    return answer_json(await asked.answer(build), if_none_match)


class _Asked:
    """What an evaluation is asked for."""

    def __init__(
        self,
        services: Services,
        checkpoint: Checkpoint,
        pack: StoredPack,
        split: Split,
        chosen_on: Literal["validation", "test", "none"],
    ) -> None:
        self._services = services
        self.checkpoint, self.pack, self.split, self.chosen_on = checkpoint, pack, split, chosen_on
        self.job_id = checkpoint.job_id

    @classmethod
    async def find(
        cls, services: Services, caller: str, job_id: str, checkpoint_id: str | None, split: Split
    ) -> _Asked:
        def look() -> _Asked:
            with services.database.reading() as session:
                job = jobs.get_job(session, caller, job_id)
                if checkpoint_id is None:
                    row = checkpoints.resolve_model(session, caller, job_id)
                else:
                    row = checkpoints.get_checkpoint(session, caller, checkpoint_id)
                chosen_on = job.config.get("validate_on", "none")
            if row.job_id != job.id:
                raise InvalidRequest(
                    f"checkpoint {row.id} belongs to job {row.job_id}, not to {job.id}", param="checkpoint"
                )
            pack, _ = find_training_data(services.database, row)
            return cls(services, row, pack, split, chosen_on)

        return await anyio.to_thread.run_sync(look)

    async def answer(self, build: Callable[[SplitAnswers, Pack], T]) -> T:
        """Return what is built from the answers, which are computed first if that has not been done."""
        folder = await self._services.insight.need(self.checkpoint, self.pack, PassKind.ANSWERS, self.split)
        return await anyio.to_thread.run_sync(self._build, folder, build)

    def _build(self, folder: Path, build: Callable[[SplitAnswers, Pack], T]) -> T:
        try:
            answers = SplitAnswers.load(folder / ANSWERS)
        except (OSError, ValueError) as exc:
            self._services.insight.forget(self.checkpoint, PassKind.ANSWERS, self.split)
            raise InsightInProgress("the answers were just removed: ask again", retry_after_s=1) from exc
        try:
            with self.pack.open(self._services.storage) as pack:
                return build(answers, pack)
        except OSError as exc:
            raise StorageUnavailable(
                f"dataset {self.pack.dataset_id} can't be read now: try again in a moment"
            ) from exc


def _find_class(pack: Pack, name: str | None, param: str) -> int | None:
    if name is None:
        return None
    label = find_label(pack, name)
    if label is None:
        some = ", ".join(map(repr, pack.class_names[:5])) + (", …" if len(pack.class_names) > 5 else "")
        raise InvalidRequest(f"there is no class {name[:80]!r}: the classes are {some}", param=param)
    return label


def _find_place(answers: SplitAnswers, pack: Pack, rows: list[int], image_id: str) -> int:
    split, _, index = image_id.partition("-")
    position = find_position(pack, split, int(index))
    for place, row in enumerate(rows):
        if answers.positions[row] == position:
            return place
    raise InvalidRequest(f"image {image_id} is not listed: use `last_id` of the previous page", param="after")


def _read_stored(services: Services, caller: str, job_id: str) -> bytes:
    with services.database.reading() as session:
        job = jobs.get_job(session, caller, job_id)
    found = _read_evaluation(services.storage, job)
    best = job.best or {}
    checkpoint_id = best.get("checkpoint") if best.get("epoch") == found.epoch else None
    return EvaluationRead.of(job.id, job.its_dataset.id, found, checkpoint_id=checkpoint_id).model_dump_json().encode()


def _read_evaluation(storage: Storage, job: Job) -> JobEvaluation:
    if job.state is not JobState.SUCCEEDED:
        then = "only a job that succeeds has one" if job.state.is_final else "it is made at the end of the job"
        raise EvaluationNotFound(f"job {job.id} is {job.shown_state}, so it has no evaluation: {then}", param="job_id")
    record = parse_last_record(job_log.read_tail(storage, evaluation_key(job.id), lines=1, max_bytes=MAX_BYTES))
    if record is None or record.evaluation is None:
        raise EvaluationNotFound(
            f"job {job.id} has no evaluation: an earlier version trained it, or its evaluation failed (a warning in "
            f"`GET /jobs/{job.id}/events` says so), or the store does not have it yet. Look again in a moment, or "
            f"{_BY_HAND}",
            param="job_id",
        )
    return record.evaluation
