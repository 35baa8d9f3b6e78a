"""`/checkpoints/{checkpoint_id}/filters.png` and `/calibration`: what a checkpoint has learned, and how sure it is."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter
from starlette.responses import Response

from alexnet_core.insight.protocol import DrawFilters
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.validators import NOT_MODIFIED, IfNoneMatch, answer_json, is_known, lasting_headers
from api.insight import calibrations
from api.reading.checkpoint_reader import find_checkpoint
from api.routes.insight.explanations import ScaleQuery
from api.routes.queries import CheckpointPath
from api.schemas.insight import CalibrationRead
from api.services import CallerDep, ServicesDep
from trainyard import __version__
from trainyard.errors import (
    CheckpointIncompatible,
    CheckpointNotFound,
    CheckpointPruned,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetNotReady,
    DatasetRejected,
    InvalidRequest,
    StorageUnavailable,
)
from trainyard.insight_errors import (
    CalibrationNotFound,
    DatasetDiffers,
    InsightFailed,
    InsightInProgress,
    InsightQueueFull,
)

router = APIRouter(prefix="/checkpoints", tags=["insight"], route_class=GuardedRoute)

_REFUSALS = (
    *(CheckpointNotFound, CheckpointPruned, CheckpointIncompatible, InsightQueueFull, InsightFailed),
    *(InvalidRequest, DatabaseUnavailable, StorageUnavailable),
)
_PNG = {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}} | NOT_MODIFIED


@router.get(
    "/{checkpoint_id}/filters.png",
    summary="Draw a checkpoint's first kernels",
    response_description="A PNG.",
    response_class=Response,
    responses=errors.responses(*_REFUSALS, success=_PNG),
)
async def get_filters(
    checkpoint_id: CheckpointPath,
    services: ServicesDep,
    caller: CallerDep,
    scale: ScaleQuery = "common",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Draw the kernels of the first convolution, sixteen in a row, as in Figure 3 of Krizhevsky 2012."""
    checkpoint = await anyio.to_thread.run_sync(find_checkpoint, services.database, caller, checkpoint_id)
    headers = lasting_headers(repr((__version__, checkpoint.manifest_sha256, scale)).encode())
    if is_known(headers, if_none_match):
        return Response(status_code=304, headers=headers)
    _, picture = await services.insight.ask(
        checkpoint,
        lambda opened: DrawFilters(checkpoint=opened.checkpoint, manifest_sha256=opened.manifest_sha256, scale=scale),
    )
    return Response(picture, headers=headers, media_type="image/png")


@router.get(
    "/{checkpoint_id}/calibration",
    summary="Tell how far a checkpoint's probabilities can be trusted",
    response_model=CalibrationRead,
    responses=errors.responses(
        *_REFUSALS,
        *(CalibrationNotFound, DatasetNotFound, DatasetNotReady, DatasetRejected, DatasetDiffers, InsightInProgress),
        success=NOT_MODIFIED,
    ),
)
async def get_calibration(
    checkpoint_id: CheckpointPath, services: ServicesDep, caller: CallerDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Return the reliability curve, the expected calibration error, and the temperature that corrects it.

    They are of images that the network was not trained on: those that it was validated on, or else the test images.
    """
    checkpoint = await anyio.to_thread.run_sync(find_checkpoint, services.database, caller, checkpoint_id)
    found = await calibrations.get_calibration(services.database, services.insight, checkpoint)
    body = CalibrationRead(**found.model_dump(), checkpoint=checkpoint.id, job=checkpoint.job_id)
    return answer_json(body.model_dump_json().encode(), if_none_match)
