"""`/v1/files`: datasets for the clients of OpenAI's API. A file is an archive of which a dataset is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import StreamingResponse

from api.downloads.dataset_archives import ImageArchive
from api.downloads.response import ArchiveResponse
from api.downloads.stored_packs import StoredPack
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.routes.dataset_bodies import read_options, submit_received, take_dataset
from api.routes.fine_tuning.openai_words import in_openai_words
from api.routes.queries import AfterQuery, KeyHeader
from api.schemas.datasets import DatasetOptions
from api.schemas.runs.fine_tuning import OpenAIList
from api.schemas.runs.openai_objects import FINE_TUNE, OpenAIDeleted, OpenAIFileRead
from api.services import CallerDep, Services, ServicesDep
from api.submission import SubmittedDataset
from api.uploads.bodies import FORM, ReceivedFile, check_type
from api.uploads.file_names import strip_archive_endings
from trainyard.artifacts import dataset_intake, datasets, deletion, uploads
from trainyard.errors import (
    BodyUnreadable,
    Conflict,
    DatabaseFull,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetNotReady,
    DatasetRejected,
    IdempotencyConflict,
    InUse,
    InvalidRequest,
    RequestTimeout,
    StorageUnavailable,
    TooLarge,
    TooManyDownloads,
    TooManyUploads,
    Unavailable,
    UnsupportedMedia,
)
from trainyard.upload_errors import DiskFull, QuotaExceeded

router = APIRouter(prefix="/v1/files", tags=["fine-tuning"], route_class=GuardedRoute)

PAGE = 100  #: files on a page, whatever `limit` says: these clients ask for ten thousand
FilePath = Annotated[str, Path(description="The dataset's id or name.")]
_TEXT, _BINARY = {"type": "string"}, {"type": "string", "format": "binary"}
_FIELDS: dict[str, Any] = {"file": _BINARY, "purpose": _TEXT} | dict.fromkeys(DatasetOptions.model_fields, _TEXT)
_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {FORM: {"schema": {"type": "object", "required": ["file", "purpose"], "properties": _FIELDS}}},
        "required": True,
    }
}


@router.post(
    "",
    summary="Upload a file",
    openapi_extra=_BODY,
    response_description="The file: a dataset that will be checked.",
    responses=errors.responses(
        *(DatasetNotFound, InvalidRequest, IdempotencyConflict, Conflict, QuotaExceeded, BodyUnreadable),
        *(UnsupportedMedia, RequestTimeout, TooLarge, TooManyUploads, DiskFull),
        *(Unavailable, StorageUnavailable, DatabaseUnavailable, DatabaseFull),
    ),
)
async def create_openai_file(
    request: Request, services: ServicesDep, caller: CallerDep, idempotency_key: KeyHeader = None
) -> OpenAIFileRead:
    """Store an archive of class folders, and add a dataset that is made of it, as `POST /datasets` does.

    The form has `file` and `purpose` (`fine-tune`), and may have the fields of `POST /datasets`; `name` is by default
    the file's name. If anything is wrong, nothing of it stays.
    """
    if check_type(request) != FORM:
        raise UnsupportedMedia("send the archive as multipart field `file`, with `purpose`, as OpenAI's clients do")
    made = await take_dataset(
        request, services, caller, lambda received: _submit(services, caller, received, idempotency_key)
    )
    return await anyio.to_thread.run_sync(_read, services, caller, made.dataset.id)


@router.get("", summary="List files", responses=errors.responses(InvalidRequest, DatabaseUnavailable))
def list_openai_files(
    services: ServicesDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=10_000, description=f"Most entries on the page, which has {PAGE}.")] = PAGE,
    after: AfterQuery = None,
    purpose: Annotated[
        str | None, Query(max_length=64, description="Only files for this; all are for `fine-tune`.")
    ] = None,
    order: Annotated[Literal["desc"], Query(description="The newest come first.")] = "desc",
) -> OpenAIList[OpenAIFileRead]:
    """Return a page of the datasets that you may train on, including the built-in ones, the newest first."""
    if purpose not in (None, FINE_TUNE):
        return OpenAIList(data=[], has_more=False)
    with services.database.reading() as session:
        page = datasets.list_datasets(session, caller, limit=min(limit, PAGE), after=after)
        return OpenAIList(data=[OpenAIFileRead.of(row) for row in page.items], has_more=page.has_more)


@router.get("/{file_id}", summary="Get a file", responses=errors.responses(DatasetNotFound, DatabaseUnavailable))
def get_openai_file(file_id: FilePath, services: ServicesDep, caller: CallerDep) -> OpenAIFileRead:
    """Return one file."""
    with in_openai_words():
        return _read(services, caller, file_id)


@router.delete(
    "/{file_id}",
    summary="Delete a file",
    responses=errors.responses(DatasetNotFound, Conflict, InUse, DatabaseUnavailable),
)
def delete_openai_file(file_id: FilePath, services: ServicesDep, caller: CallerDep) -> OpenAIDeleted:
    """Remove a dataset of yours that no unfinished job needs, as `DELETE /datasets/{dataset_id}` does."""
    with in_openai_words():
        with services.database.writing() as session:
            dataset_id = datasets.get_dataset(session, caller, file_id, param="dataset_id").id
            keys = dataset_intake.delete_dataset(session, caller, dataset_id)
        deletion.remove_files(services.storage, keys)
    return OpenAIDeleted(id=dataset_id, object="file")


@router.get(
    "/{file_id}/content",
    summary="Download a file",
    response_description="A tar.",
    response_class=StreamingResponse,
    responses=errors.responses(
        *(DatasetNotFound, DatasetNotReady, DatasetRejected),
        *(TooManyDownloads, DatabaseUnavailable, StorageUnavailable),
        success={200: {"content": {"application/x-tar": {"schema": _BINARY}}}},
    ),
)
def get_openai_file_content(file_id: FilePath, services: ServicesDep, caller: CallerDep) -> StreamingResponse:
    """Download the images of a dataset as they are stored: a tar of PNG files in class folders.

    The archive that was sent is not kept. This one can be sent again.
    """
    with in_openai_words():
        with services.database.reading() as session:
            stored = StoredPack.of(datasets.get_dataset(session, caller, file_id, param="dataset_id"))
        slot = services.downloads.take()
        try:
            return ArchiveResponse(ImageArchive(services.storage, stored, slot), f"{stored.dataset_id}-images.tar")
        except OSError as exc:
            raise StorageUnavailable(f"file {stored.dataset_id} can't be read now: try again in a moment") from exc


def _submit(services: Services, caller: str, received: ReceivedFile, key: str | None) -> SubmittedDataset:
    given = dict(received.fields)
    if (purpose := given.pop("purpose", None)) != FINE_TUNE:
        raise InvalidRequest(
            f"purpose is {purpose!r}: only files for fine-tuning are taken, so send {FINE_TUNE!r}", param="purpose"
        )
    if any(name.startswith("expires_after") for name in given):
        raise InvalidRequest("expires_after: a file stays until it is deleted, so leave it out", param="expires_after")
    if "name" not in given:
        with services.database.reading() as session:
            file_name = uploads.get_upload(session, caller, received.upload_id).name
        given["name"] = strip_archive_endings(file_name or "")
    return submit_received(services, caller, read_options(given), received, key)


def _read(services: Services, caller: str, reference: str) -> OpenAIFileRead:
    with services.database.reading() as session:
        return OpenAIFileRead.of(datasets.get_dataset(session, caller, reference, param="dataset_id"))
