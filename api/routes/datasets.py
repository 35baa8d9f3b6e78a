"""`/datasets`: the labelled images that jobs can train on."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from api import submission
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.reading.dataset_reader import describe_datasets
from api.routes.queries import AfterQuery, DatasetPath, KeyHeader, LimitQuery
from api.schemas.base import ListRead
from api.schemas.datasets import DatasetCreate, DatasetOptions, DatasetRead
from api.services import CallerDep, ServicesDep
from api.uploads.bodies import FORM, RAW_TYPES
from trainyard.artifacts import dataset_intake, datasets, deletion
from trainyard.artifacts.dataset_intake import NewDataset
from trainyard.artifacts.operator_folders import find_source
from trainyard.errors import (
    BodyUnreadable,
    Conflict,
    DatabaseFull,
    DatabaseUnavailable,
    DatasetNotFound,
    IdempotencyConflict,
    InUse,
    InvalidRequest,
    JsonInvalid,
    RequestTimeout,
    StorageUnavailable,
    TooLarge,
    TooManyUploads,
    Unavailable,
    UnsupportedMedia,
)
from trainyard.upload_errors import DiskFull, QuotaExceeded, UploadNotFound

router = APIRouter(route_class=GuardedRoute)

_TEXT, _BINARY = {"type": "string"}, {"type": "string", "format": "binary"}
_FIELDS: dict[str, Any] = dict.fromkeys(DatasetOptions.model_fields, _TEXT) | {"file": _BINARY}
_OTHER_BODIES: dict[str, Any] = {
    "requestBody": {
        "content": {
            FORM: {"schema": {"type": "object", "required": ["file"], "properties": _FIELDS}},
            **{kind: {"schema": _BINARY} for kind in sorted(RAW_TYPES)},
        }
    }
}


@router.get(
    "/datasets",
    tags=["datasets"],
    summary="List datasets",
    responses=errors.responses(InvalidRequest, DatabaseUnavailable),
)
def list_datasets(
    services: ServicesDep, caller: CallerDep, limit: LimitQuery = 20, after: AfterQuery = None
) -> ListRead[DatasetRead]:
    """Return a page of the datasets that you may train on, including the built-in ones."""
    with services.database.reading() as session:
        page = datasets.list_datasets(session, caller, limit=limit, after=after)
        found = describe_datasets(session, services.settings, page.items, with_reports=False)
        return ListRead[DatasetRead].of(found, has_more=page.has_more)


@router.get(
    "/datasets/{dataset_id}",
    tags=["datasets"],
    summary="Get a dataset",
    responses=errors.responses(DatasetNotFound, DatabaseUnavailable),
)
def get_dataset(dataset_id: DatasetPath, services: ServicesDep, caller: CallerDep) -> DatasetRead:
    """Return one dataset, by id or by name."""
    if "\0" in dataset_id:
        raise DatasetNotFound(param="dataset_id")
    with services.database.reading() as session:
        found = datasets.get_dataset(session, caller, dataset_id, param="dataset_id")
        return describe_datasets(session, services.settings, [found])[0]


@router.post(
    "/datasets",
    tags=["datasets"],
    status_code=202,
    summary="Add a dataset",
    openapi_extra=_OTHER_BODIES,
    response_description="It will be validated. `Location` is where to follow it.",
    responses=errors.responses(
        *(DatasetNotFound, UploadNotFound, InvalidRequest, IdempotencyConflict, Conflict, QuotaExceeded),
        *(JsonInvalid, BodyUnreadable, UnsupportedMedia, RequestTimeout, TooLarge, TooManyUploads, DiskFull),
        *(Unavailable, StorageUnavailable, DatabaseUnavailable, DatabaseFull),
        success={200: {"model": DatasetRead, "description": "This Idempotency-Key made this dataset before."}},
    ),
)
def create_dataset(
    body: DatasetCreate,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: KeyHeader = None,
) -> DatasetRead:
    """Add a dataset and answer at once. A worker validates it and makes its pack; follow it at `GET /datasets/{id}`.

    A job may name it at once: it begins when the dataset is ready. The body is JSON that names an `upload` or a `path`,
    or the archive itself: as `file` of a form or as a raw body, with the options as fields of the form or in the query.
    """
    if body.path is not None:
        source = {"path": str(find_source(services.settings.dataset_folders, body.path))}
    else:
        source = {"upload": str(body.upload)}
    new = NewDataset(body.name, source, body.options, parent_id=body.parent_id)
    content = body.model_dump(mode="json")
    submitted = submission.submit_dataset(services, caller, new, content, idempotency_key)
    submission.tell_where(response, f"/datasets/{submitted.dataset.id}", is_new=submitted.is_new)
    return submitted.dataset


@router.delete(
    "/datasets/{dataset_id}",
    tags=["datasets"],
    status_code=204,
    summary="Delete a dataset",
    response_description="It has been removed, with its files.",
    responses=errors.responses(DatasetNotFound, Conflict, InUse, DatabaseUnavailable),
)
def delete_dataset(dataset_id: DatasetPath, services: ServicesDep, caller: CallerDep) -> None:
    """Remove a dataset of yours that no unfinished job needs. One that is still validated is given up.

    Jobs that have ended keep their checkpoints and still name it.
    """
    with services.database.writing() as session:
        keys = dataset_intake.delete_dataset(session, caller, dataset_id)
    deletion.remove_files(services.storage, keys)
