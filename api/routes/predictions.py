"""`POST /predict`: classifies images. It is the only route that is a coroutine: it waits while threads do the work."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.datastructures import UploadFile

from alexnet_core.insight.serving_facts import ServingFacts
from api.http import errors
from api.http.connections import ARRIVED_AT
from api.http.quick_route import ATTRIBUTE, QuickRoute
from api.insight.calibrations import get_calibration
from api.schemas.predictions import (
    FileResult,
    LabelRead,
    ModelRead,
    PredictManyRead,
    PredictRead,
    TimingRead,
    UnfamiliarityRead,
)
from api.services import CallerDep, Services, ServicesDep, get_caller, get_services
from api.serving.interface import Classified, ModelInfo, Outcome
from trainyard.artifacts import checkpoints
from trainyard.artifacts.checkpoints import LATEST
from trainyard.database.tables import Checkpoint
from trainyard.errors import (
    BodyUnreadable,
    CheckpointIncompatible,
    CheckpointNotFound,
    CheckpointPruned,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetNotReady,
    DatasetRejected,
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    JobNotFound,
    ModelLoading,
    NoCheckpoint,
    NoCheckpointOfJob,
    PredictQueueFull,
    StorageUnavailable,
    TooLarge,
    TooManyUploads,
    UnsupportedImageFormat,
    UnsupportedMedia,
)
from trainyard.insight_errors import (
    CalibrationNotFound,
    DatasetDiffers,
    InsightFailed,
    InsightInProgress,
    InsightQueueFull,
)
from trainyard.serving_errors import AliasNotFound, DeadlineExceeded

router = APIRouter(tags=["predictions"], route_class=QuickRoute)

T = TypeVar("T")

MAX_FIELDS = 16
MAX_REFERENCE, MAX_STICKY = 200, 200  #: characters
StickyHeader = Annotated[
    str | None,
    Header(
        alias="X-Trainyard-Sticky",
        min_length=1,
        max_length=MAX_STICKY,
        description="For an alias with a canary: requests with the same text, such as a user's id, are answered by the "
        "same side. Without it chance decides.",
    ),
]
TimeoutHeader = Annotated[
    int | None,
    Header(
        alias="X-Trainyard-Timeout-Ms",
        ge=1,
        le=600_000,
        description="Milliseconds after which nobody needs the answer any more: then nothing more is computed for it, "
        "and it is 504 `deadline_exceeded`.",
    ),
]
_UNUSUAL_HEADERS = {"x-trainyard-sticky", "x-trainyard-timeout-ms"}
_PLAIN_NUMBER = re.compile("[1-9][0-9]{0,2}")
CLIENT_GONE = 499  # nobody reads it
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
        },
    }
}


@router.post(
    "/predict",
    response_model=PredictRead | PredictManyRead,
    response_model_exclude_unset=True,  # unfamiliarity is told only to who asks for it
    summary="Classify images",
    response_description="The classes, most probable first. `X-Trainyard-Checkpoint` names the checkpoint.",
    openapi_extra=_REQUEST_BODY,
    responses=errors.responses(
        *(
            JobNotFound,
            AliasNotFound,
            CheckpointNotFound,
            CheckpointPruned,
            NoCheckpointOfJob,
            NoCheckpoint,
            ModelLoading,
            DeadlineExceeded,
        ),
        *(
            PredictQueueFull,
            TooManyUploads,
            TooLarge,
            ImageTooLarge,
            InvalidImage,
            InvalidRequest,
            BodyUnreadable,
            UnsupportedMedia,
        ),
        *(UnsupportedImageFormat, DatabaseUnavailable, StorageUnavailable),
        *(CalibrationNotFound, DatasetNotFound, DatasetNotReady, DatasetRejected, DatasetDiffers),
        *(CheckpointIncompatible, InsightInProgress, InsightQueueFull, InsightFailed),
    ),
)
async def predict(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    model: Annotated[
        str,
        Query(
            max_length=MAX_REFERENCE,
            description="`latest`, an alias, `job_…` (its best), `job_…@latest`, `job_…@epoch-3` or `ckpt_…`.",
        ),
    ] = LATEST,
    top_k: Annotated[int, Query(ge=1, le=1000, description="How many classes to name, if there are so many.")] = 5,
    sticky: StickyHeader = None,
    calibrated: Annotated[
        bool,
        Query(description="Correct the probabilities by the checkpoint's calibration, and tell unfamiliar images."),
    ] = False,
    timeout_ms: TimeoutHeader = None,
) -> PredictRead | PredictManyRead | Response:
    """Classify one image (multipart `file` or the raw body) or several (`file` repeated).

    The answer for one image has `predictions`, that for several has `results`: for each file its predictions or its
    error. The request fails only if none of the images could be classified.
    """
    started = time.perf_counter()
    images = await _read_images(request, services.settings.max_queued_predictions)
    left_ms = count_left_ms(request, timeout_ms)
    working = _classify(services, caller, model, [data for _, data in images], top_k, sticky, calibrated)
    classified = await unless_gone(request, working, left_ms)
    if classified is None:
        return Response(status_code=CLIENT_GONE)
    answered = _list_answered(classified)
    response.headers["X-Trainyard-Checkpoint"] = classified.model.checkpoint
    named = _describe_model(classified.model)
    timing = _timing(answered, started)
    if len(images) == 1:
        found = _unfamiliarity(answered[0], classified.facts)
        return PredictRead(model=named, predictions=_labels(answered[0]), timing=timing, **found)
    results = [
        FileResult(filename=name, predictions=_labels(outcome), error=None, **_unfamiliarity(outcome, classified.facts))
        if outcome.refusal is None
        else FileResult(filename=name, predictions=None, error=errors.describe(outcome.refusal.to_error()))
        for (name, _), outcome in zip(images, classified.outcomes, strict=True)
    ]
    return PredictManyRead(model=named, results=results, timing=timing)


def count_left_ms(request: Request, timeout_ms: int | None) -> float | None:
    """Return how long the client still waits: its time began when the request's headers were there.

    Raises:
        DeadlineExceeded: no longer.
    """
    if timeout_ms is None:
        return None
    now = asyncio.get_running_loop().time()
    left_ms = timeout_ms - 1000 * (now - request.scope.get(ARRIVED_AT, now))
    if left_ms <= 0:
        raise DeadlineExceeded
    return float(left_ms)


async def _classify(
    services: Services, caller: str, model: str, images: list[bytes], top_k: int, sticky: str | None, calibrated: bool
) -> Classified:
    """Classify images, with calibrated probabilities if that is asked for: a calibration is made at first use."""
    classify = services.engine.classify
    classified = await classify(caller, model, images, top_k, sticky, calibrated)
    if not calibrated or classified.facts is not None:
        return classified
    checkpoint = await anyio.to_thread.run_sync(_find_checkpoint, services, caller, classified.model.checkpoint)
    await get_calibration(services.database, services.insight, checkpoint)
    classified = await classify(caller, model, images, top_k, sticky, calibrated)
    if classified.facts is None:
        raise InsightInProgress("another checkpoint has just become the model: ask again", retry_after_s=1)
    return classified


def _find_checkpoint(services: Services, caller: str, checkpoint_id: str) -> Checkpoint:
    with services.database.reading() as session:
        return checkpoints.get_checkpoint(session, caller, checkpoint_id)


async def _predict_plainly(request: Request) -> Response | None:
    """Answer a request whose body is one image, with nothing unusual about it. None: it is not such a request."""
    started = time.perf_counter()
    query, headers = request.query_params, request.headers
    if not _is_raw_image(headers.get("content-type", "")) or not _UNUSUAL_HEADERS.isdisjoint(headers.keys()):
        return None
    model, top_k = query.get("model", LATEST), query.get("top_k", "5")
    if not query.keys() <= {"model", "top_k"} or len(model) > MAX_REFERENCE or not _PLAIN_NUMBER.fullmatch(top_k):
        return None
    services, caller = await get_services(request), await get_caller(request)
    working = services.engine.classify(caller, model, [await request.body()], int(top_k))
    classified = await unless_gone(request, working)
    if classified is None:
        return Response(status_code=CLIENT_GONE)
    [outcome] = _list_answered(classified)
    body = {
        "model": asdict(classified.model),
        "predictions": [
            {"label": label, "index": index, "probability": probability} for label, index, probability in outcome.labels
        ],
        "timing": _timing([outcome], started).model_dump(),
    }
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    named = {"X-Trainyard-Checkpoint": classified.model.checkpoint}
    return Response(content, media_type="application/json", headers=named)


setattr(predict, ATTRIBUTE, _predict_plainly)


def _list_answered(classified: Classified) -> list[Outcome]:
    """Return what was answered.

    Raises:
        ServiceError: nothing was; why the first image was refused.
    """
    answered = [outcome for outcome in classified.outcomes if outcome.refusal is None]
    if not answered:
        raise next(outcome.refusal.to_error() for outcome in classified.outcomes if outcome.refusal is not None)
    return answered


def _is_raw_image(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/octet-stream" or kind.startswith("image/")


async def _read_images(request: Request, max_files: int) -> list[tuple[str, bytes]]:
    """Read the request's images with their file names."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if _is_raw_image(content_type):
        return [("", await request.body())]
    if content_type != "multipart/form-data":
        raise UnsupportedMedia(
            f"Content-Type is {content_type[:100]!r}: send the image as multipart field `file`, "
            "or as the body with `image/…` or `application/octet-stream`"
        )
    async with request.form(max_files=max_files, max_fields=MAX_FIELDS) as form:
        parts = form.getlist("file")
        if not parts or not all(isinstance(part, UploadFile) for part in parts):
            raise InvalidRequest("there is no file: send the image as multipart field `file`", param="file")
        return [(part.filename or "", await part.read()) for part in parts if isinstance(part, UploadFile)]


async def unless_gone(request: Request, work: Coroutine[Any, Any, T], timeout_ms: float | None = None) -> T | None:
    """Return the result of the work. None: the client closed the connection, and the work was cancelled.

    Raises:
        DeadlineExceeded: it took longer than the client wants to wait; the work was cancelled.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_wait_until_gone(request))
    try:
        wait_s = None if timeout_ms is None else timeout_ms / 1000
        done, _ = await asyncio.wait({working, leaving}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise DeadlineExceeded
        return await working if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _wait_until_gone(request: Request) -> None:
    """Return when the client has closed the connection. Its body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _describe_model(model: ModelInfo) -> ModelRead:
    return ModelRead(**asdict(model))


def _labels(outcome: Outcome) -> list[LabelRead]:
    return [
        LabelRead(label=label, index=index, probability=probability) for label, index, probability in outcome.labels
    ]


def _unfamiliarity(outcome: Outcome, facts: ServingFacts | None) -> dict[str, UnfamiliarityRead]:
    """Return the field of an answer; none where it was not asked for."""
    if facts is None or outcome.unfamiliarity is None:
        return {}
    score, threshold = outcome.unfamiliarity, facts.unfamiliarity_threshold
    found = UnfamiliarityRead(score=score, threshold=threshold, is_unfamiliar=score > threshold)
    return {"unfamiliarity": found}


def _timing(outcomes: list[Outcome], started: float) -> TimingRead:
    return TimingRead(
        preprocess_ms=round(max(outcome.preprocess_ms for outcome in outcomes), 3),
        queue_ms=round(max(outcome.queue_ms for outcome in outcomes), 3),
        inference_ms=round(max(outcome.inference_ms for outcome in outcomes), 3),
        total_ms=round(1000 * (time.perf_counter() - started), 3),
    )
