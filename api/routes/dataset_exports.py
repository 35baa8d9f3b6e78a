"""`/datasets/{dataset_id}/report`, `/rejected` and `/download`: what can be taken away from a dataset."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from alexnet_core.predictions.spreadsheet_cells import disarm
from api.downloads.dataset_archives import ImageArchive, PackArchive
from api.downloads.ranges import PARTIAL, RangeDep
from api.downloads.response import ArchiveResponse
from api.downloads.stored_packs import StoredPack
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.validators import NOT_MODIFIED, IfNoneMatch, answer_json
from api.routes.queries import DatasetPath, LimitQuery
from api.schemas.base import ListRead
from api.schemas.dataset_reports import RejectedFileRead, ReportRead, count_rejected
from api.services import CallerDep, Services, ServicesDep
from trainyard.artifacts import datasets
from trainyard.database.tables import Dataset
from trainyard.errors import (
    BeyondTheEnd,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetNotReady,
    DatasetRejected,
    InvalidRequest,
    ReportNotFound,
    StorageUnavailable,
    TooManyDownloads,
)
from trainyard.states import DatasetState

router = APIRouter(prefix="/datasets/{dataset_id}", tags=["datasets"], route_class=GuardedRoute)

_COLUMNS = ("file", "code", "reason")
_ROWS_A_PIECE = 1000


@router.get(
    "/report",
    summary="Get a dataset's report",
    response_model=ReportRead,
    responses=errors.responses(DatasetNotFound, ReportNotFound, DatabaseUnavailable, success=NOT_MODIFIED),
)
def get_report(
    dataset_id: DatasetPath, services: ServicesDep, caller: CallerDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Return what was found when the dataset was validated, whether it is ready or was rejected."""
    found, report = _read_report(services, caller, dataset_id)
    here = f"/datasets/{found.id}"
    described = ReportRead(
        dataset=found.id,
        num_rejected=count_rejected(report),
        report={name: value for name, value in report.items() if name not in {"rejected", "num_rejected"}},
        links={"self": f"{here}/report", "dataset": here, "rejected": f"{here}/rejected"},
    )
    return answer_json(described.model_dump_json().encode(), if_none_match)


@router.get(
    "/rejected",
    summary="List a dataset's rejected files",
    response_model=ListRead[RejectedFileRead],
    response_description="A page as JSON, or all of them as CSV.",
    responses=errors.responses(
        *(DatasetNotFound, ReportNotFound, InvalidRequest, DatabaseUnavailable),
        success={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    ),
)
def list_rejected(
    dataset_id: DatasetPath,
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: Annotated[
        int | None, Query(ge=0, le=10**12, description="`last_id` of the previous page; JSON only.")
    ] = None,
    format: Annotated[
        Literal["json", "csv"] | None, Query(description="Default: `csv` for `Accept: text/csv`, else `json`.")
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Return the files that are not used, each with the reason: a page as JSON, or all as CSV.

    In the CSV a cell that a spreadsheet would run as a formula begins with an apostrophe.
    """
    found, report = _read_report(services, caller, dataset_id)
    rejected: list[dict[str, Any]] = report.get("rejected", [])
    vary = {"Vary": "Accept", "Cache-Control": "no-cache, private"}
    if format == "csv" or (format is None and _prefers_csv(accept.lower())):
        named = vary | {"Content-Disposition": f'attachment; filename="{found.id}-rejected.csv"'}
        return StreamingResponse(write_csv(rejected), headers=named, media_type="text/csv; charset=utf-8")
    start = 0 if after is None else after + 1
    files = [
        RejectedFileRead(id=str(number), **{name: entry[name] for name in _COLUMNS})
        for number, entry in enumerate(rejected[start : start + limit], start)
    ]
    page = ListRead[RejectedFileRead].of(files, has_more=len(rejected) > start + limit)
    return Response(page.model_dump_json(), headers=vary, media_type="application/json")


@router.get(
    "/download",
    summary="Download a dataset",
    response_description="A tar.",
    response_class=StreamingResponse,
    responses=errors.responses(
        *(DatasetNotFound, DatasetNotReady, DatasetRejected, InvalidRequest, BeyondTheEnd),
        *(TooManyDownloads, DatabaseUnavailable, StorageUnavailable),
        success={
            200: {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}},
            **PARTIAL,
        },
    ),
)
def download_dataset(
    dataset_id: DatasetPath,
    services: ServicesDep,
    caller: CallerDep,
    ranges: RangeDep,
    format: Annotated[
        Literal["pack", "images"],
        Query(
            description="`pack`: as `python -m alexnet_core train` reads it. `images`: PNG files in class folders, "
            "`train/cat/000017-IMG_0042.png`."
        ),
    ] = "pack",
) -> StreamingResponse:
    """Download a dataset as a tar, under its id: its pack, or its images as they are stored.

    A pack is compared with its digest while it is sent. If it is damaged, the download ends before its last file,
    `pack.json`, without which nothing reads it. The download of a pack that was cut goes on with `Range`.
    """
    with services.database.reading() as session:
        stored = StoredPack.of(datasets.get_dataset(session, caller, dataset_id, param="dataset_id"))
    slot = services.downloads.take()
    try:
        if format == "pack":
            return ArchiveResponse(
                PackArchive(services.storage, stored, slot), f"{stored.dataset_id}.tar", ranges=ranges
            )
        return ArchiveResponse(ImageArchive(services.storage, stored, slot), f"{stored.dataset_id}-images.tar")
    except OSError as exc:
        raise StorageUnavailable(f"dataset {stored.dataset_id} can't be read now: try again in a moment") from exc


def write_csv(rejected: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield rejected files as CSV (RFC 4180), some lines at a time, without anything that a spreadsheet would run."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(_COLUMNS)
    for number, entry in enumerate(rejected, 1):
        writer.writerow(disarm(str(entry[name])) for name in _COLUMNS)
        if number % _ROWS_A_PIECE == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _prefers_csv(accept: str) -> bool:
    """Whether an `Accept` header names CSV, and names JSON later or not at all."""
    csv_at, json_at = accept.find("text/csv"), accept.find("application/json")
    return csv_at >= 0 and not 0 <= json_at < csv_at


def _read_report(services: Services, caller: str, reference: str) -> tuple[Dataset, dict[str, Any]]:
    with services.database.reading() as session:
        found = datasets.get_dataset(session, caller, reference, param="dataset_id")
        report = found.report
    if report is None:
        why = f"it is {found.state}"
        if found.owner is None:
            why = "it is built in and was never validated"
        elif found.state is DatasetState.REJECTED:
            why = f"it was rejected before its files were read; its `error` says why: `GET /datasets/{found.id}`"
        raise ReportNotFound(f"dataset {found.id} has no report: {why}", param="dataset_id")
    return found, report
