"""`/uploads`: files for datasets, sent in as many requests as it takes, by the tus protocol."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Request, Response

from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.resumable import VERSION
from api.routes.queries import AfterQuery, LimitQuery, UploadPath
from api.schemas.base import ListRead
from api.schemas.uploads import UploadRead
from api.services import CallerDep, Services, ServicesDep
from api.uploads import tus
from trainyard.artifacts import uploads
from trainyard.database.tables import Upload
from trainyard.errors import (
    DatabaseUnavailable,
    InUse,
    InvalidRequest,
    StorageUnavailable,
    TooLarge,
    TooManyUploads,
    Unavailable,
    UnsupportedMedia,
)
from trainyard.upload_errors import (
    ChecksumMismatch,
    DiskFull,
    QuotaExceeded,
    TusVersionUnsupported,
    UploadLocked,
    UploadNotFound,
    UploadOffsetMismatch,
)

router = APIRouter(tags=["uploads"], route_class=GuardedRoute)

MAX_NUMBER = 2**63 - 1
_WRITES = (UploadLocked, TooLarge, QuotaExceeded, DiskFull, UnsupportedMedia, TusVersionUnsupported, InvalidRequest)
_BYTES: dict[str, Any] = {
    "requestBody": {
        "description": "Bytes of the file.",
        "content": {tus.CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}

SizeHeader = Annotated[
    int | None, Header(alias="Upload-Length", ge=0, le=MAX_NUMBER, description="Bytes of the whole file.")
]
ChecksumHeader = Annotated[
    str | None,
    Header(
        alias="Upload-Checksum",
        max_length=200,
        description="`sha1`, `sha256` or `md5`, a space, and the digest of this body in base64.",
    ),
]


@router.options("/uploads", status_code=204, summary="Ask what is supported", responses=errors.responses())
def get_options(services: ServicesDep) -> Response:
    """Return the version of the tus protocol, its extensions and the largest size, as headers."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": VERSION,
            "Tus-Extension": tus.EXTENSIONS,
            "Tus-Max-Size": str(services.settings.max_dataset_upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
        },
    )


@router.post(
    "/uploads",
    status_code=201,
    summary="Begin an upload",
    response_description="The upload; `Location` is where its bytes go.",
    openapi_extra=_BYTES,
    responses=errors.responses(
        *_WRITES, ChecksumMismatch, TooManyUploads, Unavailable, StorageUnavailable, DatabaseUnavailable
    ),
)
async def begin_upload(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    size: SizeHeader = None,
    defer_length: Annotated[
        str | None,
        Header(alias="Upload-Defer-Length", pattern="^1$", description="`1`: a later request names the file's size."),
    ] = None,
    metadata: Annotated[
        str | None,
        Header(
            alias="Upload-Metadata",
            description="Pairs of a key and a value in base64, separated by commas. `filename` is shown.",
        ),
    ] = None,
    checksum: ChecksumHeader = None,
) -> UploadRead:
    """Begin an upload of so many bytes. The first of them may come with this request."""
    if (size is None) == (defer_length is None):
        raise InvalidRequest(
            "send either Upload-Length, the bytes of the whole file, or Upload-Defer-Length: 1", param="Upload-Length"
        )
    pairs = tus.read_metadata(metadata)
    expected = tus.read_checksum(checksum)
    if has_body := _has_body(request):
        tus.check_content_type(request.headers.get("content-type"))
    upload = await services.uploads.begin(caller, size_bytes=size, name=tus.file_name_of(pairs), metadata=pairs)
    if has_body or size == 0:
        await services.uploads.receive(caller, upload.id, 0, request.stream(), checksum=expected)
        upload = await _read(services, caller, upload.id)
    response.headers.update(
        {"Location": f"/uploads/{upload.id}", "Upload-Offset": str(upload.offset_bytes)} | tus.expiry_of(upload)
    )
    return UploadRead.model_validate(upload)


@router.get("/uploads", summary="List uploads", responses=errors.responses(InvalidRequest, DatabaseUnavailable))
def list_uploads(
    services: ServicesDep, caller: CallerDep, limit: LimitQuery = 20, after: AfterQuery = None
) -> ListRead[UploadRead]:
    """Return a page of your uploads of which no dataset was made yet."""
    with services.database.reading() as session:
        page = uploads.list_uploads(session, caller, limit=limit, after=after)
        found = [UploadRead.model_validate(row) for row in page.items]
    return ListRead[UploadRead].of(found, has_more=page.has_more)


@router.get(
    "/uploads/{upload_id}",
    summary="Get an upload",
    response_description="The upload. The headers of the tus protocol say the same, so HEAD is enough to resume.",
    responses=errors.responses(UploadNotFound, UploadLocked, TusVersionUnsupported, DatabaseUnavailable),
)
async def get_upload(
    upload_id: UploadPath,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    version: Annotated[
        str | None,
        Header(
            alias="Tus-Resumable",
            description="`1.0.0`: you are about to resume. A request for the upload that gets no more bytes is ended.",
        ),
    ] = None,
) -> UploadRead:
    """Return how far an upload has come: `Upload-Offset` is where to go on."""
    upload = await _read(services, caller, upload_id)
    if version is not None:
        await services.uploads.prepare_to_resume(upload.id)
        upload = await _read(services, caller, upload_id)
    response.headers.update(tus.describe(upload))
    return UploadRead.model_validate(upload)


@router.patch(
    "/uploads/{upload_id}",
    status_code=204,
    summary="Send bytes of an upload",
    response_description="They are on disk; `Upload-Offset` is where to go on.",
    openapi_extra=_BYTES,
    responses=errors.responses(
        *(UploadNotFound, UploadOffsetMismatch, *_WRITES, ChecksumMismatch),
        *(TooManyUploads, Unavailable, StorageUnavailable, DatabaseUnavailable),
    ),
)
async def send_bytes(
    request: Request,
    upload_id: UploadPath,
    services: ServicesDep,
    caller: CallerDep,
    offset: Annotated[
        int, Header(alias="Upload-Offset", ge=0, le=MAX_NUMBER, description="Where in the file the body begins.")
    ],
    size: SizeHeader = None,
    checksum: ChecksumHeader = None,
) -> Response:
    """Add the body to the upload. If the connection breaks, what has arrived stays; HEAD says where to go on."""
    tus.check_content_type(request.headers.get("content-type"))
    expected = tus.read_checksum(checksum)
    if size is not None:
        await services.uploads.set_size(caller, upload_id, size)
    upload = await _read(services, caller, upload_id)  # a foreign one must not end its owner's request
    end = await services.uploads.receive(caller, upload.id, offset, request.stream(), checksum=expected)
    headers = {"Upload-Offset": str(end)} | tus.expiry_of(await _read(services, caller, upload_id))
    return Response(status_code=204, headers=headers)


@router.delete(
    "/uploads/{upload_id}",
    status_code=204,
    summary="Cancel an upload",
    responses=errors.responses(UploadNotFound, UploadLocked, InUse, TusVersionUnsupported, DatabaseUnavailable),
)
async def cancel_upload(upload_id: UploadPath, services: ServicesDep, caller: CallerDep) -> Response:
    """Remove an upload with its bytes. A request that still writes to it is ended."""
    upload = await _read(services, caller, upload_id)
    await services.uploads.interrupt(upload.id)
    await services.uploads.cancel(caller, upload.id)
    return Response(status_code=204)


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


async def _read(services: Services, owner: str, upload_id: str) -> Upload:
    def read() -> Upload:
        with services.database.reading() as session:
            return uploads.get_upload(session, owner, upload_id)

    return await anyio.to_thread.run_sync(read)
