"""`/checkpoints`: the checkpoints of all jobs, to look at and to download."""

from __future__ import annotations

import contextlib
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from alexnet_core.errors import CheckpointCorrupt
from alexnet_core.layout import STATE, tensorboard_key
from api.downloads.archive import Damaged
from api.downloads.event_files import EventFileArchive
from api.downloads.packing import SAFETENSORS, pack_checkpoint, read_card_facts
from api.downloads.ranges import PARTIAL, RangeDep, RangeRequest
from api.downloads.response import ArchiveResponse
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.reading.checkpoint_reader import describe_checkpoints
from api.routes.queries import AfterQuery, CheckpointPath, LimitQuery
from api.schemas.base import ListRead
from api.schemas.jobs import CheckpointRead
from api.services import CallerDep, Services, ServicesDep
from trainyard.artifacts import checkpoints
from trainyard.artifacts.examination import Condition, set_aside_unless_whole
from trainyard.database.tables import Checkpoint
from trainyard.errors import (
    BeyondTheEnd,
    CheckpointIncompatible,
    CheckpointNotFound,
    CheckpointPruned,
    DatabaseUnavailable,
    EventFilesNotFound,
    InvalidRequest,
    StorageUnavailable,
    TooManyDownloads,
)
from trainyard.export_errors import ExportFailed, ExportUnsupported
from trainyard.storage.interface import StoredFilesDamaged
from trainyard.upload_errors import DiskFull

router = APIRouter(prefix="/checkpoints", tags=["checkpoints"], route_class=GuardedRoute)


@router.get("", summary="List checkpoints", responses=errors.responses(InvalidRequest, DatabaseUnavailable))
def list_checkpoints(
    services: ServicesDep, caller: CallerDep, limit: LimitQuery = 20, after: AfterQuery = None
) -> ListRead[CheckpointRead]:
    """Return a page of the checkpoints of all your jobs, newest first."""
    with services.database.reading() as session:
        page = checkpoints.list_checkpoints(session, caller, job_id=None, limit=limit, after=after)
        return ListRead[CheckpointRead].of(describe_checkpoints(session, page.items), has_more=page.has_more)


@router.get(
    "/{checkpoint_id}",
    summary="Get a checkpoint",
    responses=errors.responses(CheckpointNotFound, CheckpointPruned, DatabaseUnavailable),
)
def get_checkpoint(checkpoint_id: CheckpointPath, services: ServicesDep, caller: CallerDep) -> CheckpointRead:
    """Return one checkpoint: its metrics, files and checksums."""
    with services.database.reading() as session:
        row = checkpoints.get_checkpoint(session, caller, checkpoint_id)
        return describe_checkpoints(session, [row])[0]


@router.get(
    "/{checkpoint_id}/download",
    summary="Download a checkpoint",
    response_description="A tar.",
    response_class=StreamingResponse,
    responses=errors.responses(
        CheckpointNotFound,
        CheckpointPruned,
        EventFilesNotFound,
        InvalidRequest,
        BeyondTheEnd,
        DatabaseUnavailable,
        StorageUnavailable,
        CheckpointIncompatible,
        ExportUnsupported,
        ExportFailed,
        TooManyDownloads,
        DiskFull,
        success={
            200: {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}},
            **PARTIAL,
        },
    ),
)
def download_checkpoint(
    checkpoint_id: CheckpointPath,
    services: ServicesDep,
    caller: CallerDep,
    ranges: RangeDep,
    format: Annotated[
        Literal["safetensors", "onnx", "keras", "torch_export"],
        Query(
            description="Of the weights. Another than `safetensors` is made at the first download, which takes seconds."
        ),
    ] = "safetensors",
    what: Annotated[
        Literal["checkpoint", "tensorboard"],
        Query(description="`tensorboard`: instead, the event files of the whole job, for `tensorboard --logdir`."),
    ] = "checkpoint",
) -> StreamingResponse:
    """Download a tar with weights, config, class names, preprocessing, metadata and a model card.

    Its files are verified before they are sent. A download that was cut goes on with `Range`.
    """
    with services.database.reading() as session:
        row = checkpoints.get_checkpoint(session, caller, checkpoint_id)
        facts = None if what == "tensorboard" else read_card_facts(session, services.storage, row)
    if facts is None:
        return _send_event_files(services, row, ranges)
    try:
        with contextlib.ExitStack() as held:
            if format != SAFETENSORS:
                held.enter_context(contextlib.closing(services.downloads.take()))
            folder = held.enter_context(services.storage.materialise(row.key, without=STATE))
            archive = pack_checkpoint(facts, folder, format, services.exports)
    except (Damaged, CheckpointCorrupt, StoredFilesDamaged, FileNotFoundError) as exc:
        with services.database.reading() as session:
            checkpoints.get_checkpoint(session, caller, checkpoint_id)  # it may have been pruned just now
        condition = set_aside_unless_whole(services.database, services.storage, row, str(exc))
        if condition is Condition.WHOLE:
            raise StorageUnavailable(f"checkpoint {row.id} could not be read: try again in a moment") from exc
        raise CheckpointNotFound(
            f"checkpoint {row.id} is {condition} in the store and can't be used: use another one of job {row.job_id}",
            param="checkpoint_id",
        ) from exc
    except OSError as exc:
        raise StorageUnavailable(f"checkpoint {row.id} can't be read now: try again in a moment") from exc
    return ArchiveResponse(archive, f"{row.id}.tar", {"X-Trainyard-Checkpoint": row.id}, ranges=ranges)


def _send_event_files(services: Services, row: Checkpoint, ranges: RangeRequest) -> StreamingResponse:
    try:
        archive = EventFileArchive(services.storage, tensorboard_key(row.job_id))
    except FileNotFoundError as exc:
        raise EventFilesNotFound(
            f"job {row.job_id} has no TensorBoard event files: its learning curves are at "
            f"/jobs/{row.job_id}/curves.png",
            param="what",
        ) from exc
    return ArchiveResponse(archive, f"{row.job_id}-tensorboard.tar", ranges=ranges)
