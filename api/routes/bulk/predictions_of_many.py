"""`/predictions`: queue a prediction over many images, follow it, read its results, cancel and delete it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response
from starlette.responses import StreamingResponse

from alexnet_core.predictions.table_process import CSV, PARQUET
from api import bulk_submission, submission
from api.bulk_submission import describe_predictions
from api.downloads.response import ArchiveResponse
from api.downloads.stored_results import ResultTable, read_all_rows, require_readable
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.routes.queries import AfterQuery, KeyHeader, LimitQuery, PredictionPath
from api.schemas.base import ListRead
from api.schemas.bulk_predictions import PredictionCreate, PredictionRead
from api.services import CallerDep, ServicesDep
from api.streams.result_stream import ResultStream
from trainyard.artifacts import deletion, predictions
from trainyard.errors import (
    BodyUnreadable,
    CheckpointNotFound,
    CheckpointPruned,
    Conflict,
    DatabaseFull,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetNotReady,
    DatasetRejected,
    IdempotencyConflict,
    IllegalTransition,
    InvalidRequest,
    JobNotFound,
    JsonInvalid,
    NoCheckpoint,
    NoCheckpointOfJob,
    StorageUnavailable,
    TooLarge,
    TooManyDownloads,
    TooManyStreams,
)
from trainyard.insight_errors import CalibrationNotFound
from trainyard.jobs import job_list, jobs
from trainyard.serving_errors import AliasNotFound, PredictionNotEnded, PredictionNotFound
from trainyard.states import WorkKind
from trainyard.upload_errors import QuotaExceeded, UploadNotFound

router = APIRouter(prefix="/predictions", tags=["predictions"], route_class=GuardedRoute)

_MEDIA_TYPES = {CSV: "text/csv; charset=utf-8", PARQUET: "application/vnd.apache.parquet"}
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_RESULTS: dict[str, Any] = {
    "description": "The rows: one JSON object a line, or a table.",
    "content": {
        "application/x-ndjson": {"schema": {"type": "string"}},
        "text/csv": {"schema": {"type": "string"}},
        "application/vnd.apache.parquet": _BINARY,
    },
}
Wanted = Annotated[
    PredictionCreate,
    Body(
        openapi_examples={
            "dataset": {"summary": "The test images of a dataset", "value": {"dataset": "digits", "split": "test"}},
            "upload": {
                "summary": "An archive, with a certain model",
                "value": {"upload": "upl_01m867mjxcwzg9jmycd4rmka44", "model": "job_01m867mjxcwzg9jmycd4rmka44"},
            },
        }
    ),
]


@router.post(
    "",
    status_code=202,
    summary="Predict many images",
    response_description="The prediction, in the queue. `Location` is where to follow it.",
    responses=errors.responses(
        *(DatasetNotFound, UploadNotFound, JobNotFound, AliasNotFound, CheckpointNotFound, CheckpointPruned),
        *(CalibrationNotFound, QuotaExceeded),
        *(DatasetNotReady, DatasetRejected, NoCheckpointOfJob, NoCheckpoint, InvalidRequest, IdempotencyConflict),
        *(Conflict, JsonInvalid, BodyUnreadable, TooLarge, DatabaseUnavailable, DatabaseFull),
        success={200: {"model": PredictionRead, "description": "This Idempotency-Key made this prediction before."}},
    ),
)
def create_prediction(
    body: Wanted, response: Response, services: ServicesDep, caller: CallerDep, idempotency_key: KeyHeader = None
) -> PredictionRead:
    """Queue the prediction of all images of a dataset or of an uploaded archive, and answer at once.

    A worker computes it beside the training. Its rows can be read while others are computed:
    `GET /predictions/{prediction_id}/results`. A few images are better sent to `POST /predict`.
    """
    submitted = bulk_submission.submit_prediction(services, caller, body, idempotency_key)
    submission.tell_where(response, f"/predictions/{submitted.prediction.id}", is_new=submitted.is_new)
    return submitted.prediction


@router.get(
    "",
    summary="List predictions",
    responses=errors.responses(InvalidRequest, DatabaseUnavailable),
)
def list_predictions(
    services: ServicesDep, caller: CallerDep, limit: LimitQuery = 20, after: AfterQuery = None
) -> ListRead[PredictionRead]:
    """Return a page of your predictions over many images, newest first."""
    with services.database.reading() as session:
        page = job_list.list_jobs(session, caller, limit=limit, after=after, kind=WorkKind.PREDICT)
        found = describe_predictions(session, services.settings, page.items)
        return ListRead[PredictionRead].of(found, has_more=page.has_more)


@router.get(
    "/{prediction_id}",
    summary="Get a prediction",
    responses=errors.responses(PredictionNotFound, DatabaseUnavailable),
)
def get_prediction(prediction_id: PredictionPath, services: ServicesDep, caller: CallerDep) -> PredictionRead:
    """Return a prediction over many images, with what is counted of its rows so far."""
    with services.database.reading() as session:
        work = predictions.get_prediction(session, caller, prediction_id)
        return describe_predictions(session, services.settings, [work])[0]


@router.get(
    "/{prediction_id}/results",
    summary="Read a prediction's results",
    response_class=StreamingResponse,
    responses=errors.responses(
        *(PredictionNotFound, PredictionNotEnded, InvalidRequest),
        *(TooManyStreams, TooManyDownloads, DatabaseUnavailable, StorageUnavailable),
        success={200: _RESULTS},
    ),
)
def get_results(
    prediction_id: PredictionPath,
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[
        int, Query(ge=-1, le=2**53, description="Number of the last row that you have; -1: none. NDJSON only.")
    ] = -1,
    format: Annotated[
        Literal["ndjson", "csv", "parquet"],
        Query(description="`csv` and `parquet` are for a prediction that has ended."),
    ] = "ndjson",
) -> Response:
    """Return a row for each image, in the order of the rows.

    As NDJSON they are streamed while the prediction goes on, and end when it has ended. A transfer that is cut before
    that goes on with `after`. In the CSV a cell that a spreadsheet would run as a formula begins with an apostrophe.
    """
    with services.database.reading() as session:
        work = predictions.get_prediction(session, caller, prediction_id)
    if format == "ndjson":
        require_readable(services.database, services.storage, work.id, after + 1)
        return ResultStream(services.events, services.database, services.storage, work, after + 1)
    if not work.state.is_final:
        raise PredictionNotEnded(
            f"prediction {prediction_id} is {work.shown_state}: wait for its end, or read its results as NDJSON"
        )
    if after != -1:
        raise InvalidRequest(f"`after` is for NDJSON; {format} has all rows", param="after")
    require_readable(services.database, services.storage, work.id)
    rows = lambda: read_all_rows(services.database, services.storage, work.id)  # noqa: E731
    table = ResultTable(format, work.config["top_k"], rows, services.downloads.take())
    return ArchiveResponse(table, f"{work.id}.{format}", media_type=_MEDIA_TYPES[format])


@router.post(
    "/{prediction_id}/cancel",
    status_code=202,
    summary="Cancel a prediction",
    response_description="The prediction: `cancelled`, or `cancelling` until its worker has noticed.",
    responses=errors.responses(PredictionNotFound, IllegalTransition, DatabaseUnavailable),
)
def cancel_prediction(prediction_id: PredictionPath, services: ServicesDep, caller: CallerDep) -> PredictionRead:
    """Stop a prediction for good. Rows that are stored stay. Repeating it is harmless."""
    with services.database.writing() as session:
        work = jobs.cancel(session, caller, prediction_id, kind=WorkKind.PREDICT)
    with services.database.reading() as session:
        return describe_predictions(session, services.settings, [work])[0]


@router.delete(
    "/{prediction_id}",
    status_code=204,
    summary="Delete a prediction",
    response_description="It has been removed, with its events and results.",
    responses=errors.responses(PredictionNotFound, IllegalTransition, DatabaseUnavailable),
)
def delete_prediction(prediction_id: PredictionPath, services: ServicesDep, caller: CallerDep) -> None:
    """Remove a prediction that has ended, with its results. Otherwise they are removed when they expire."""
    with services.database.writing() as session:
        keys = predictions.delete_prediction(session, caller, prediction_id)
    deletion.remove_files(services.storage, keys)
