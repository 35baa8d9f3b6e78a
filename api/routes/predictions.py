"""`POST /predict`: classifies images. It is the only route that is a coroutine: it waits while threads do the work."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from alexnet_core.insight.serving_facts import ServingFacts
from api.http import errors
from api.http.client_patience import TimeoutHeader, answer_nobody, count_left_ms, unless_gone
from api.http.guarded_route import GuardedRoute
from api.http.image_bodies import IMAGES_BODY, is_raw_image, read_images
from api.http.quick_route import QuickRoute
from api.insight.calibrations import get_calibration
from api.reading.checkpoint_reader import find_checkpoint
from api.routes.queries import MAX_REFERENCE, ModelQuery, StickyHeader
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
from trainyard.artifacts.checkpoints import LATEST
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

router = APIRouter(tags=["predictions"], route_class=GuardedRoute)

_UNUSUAL_HEADERS = {"x-trainyard-sticky", "x-trainyard-timeout-ms"}
_PLAIN_NUMBER = re.compile("[1-9][0-9]{0,2}")


@router.post(
    "/predict",
    response_model=PredictRead | PredictManyRead,
    response_model_exclude_unset=True,  # unfamiliarity is told only to who asks for it
    summary="Classify images",
    response_description="The classes, most probable first. `X-Trainyard-Checkpoint` names the checkpoint.",
    openapi_extra=IMAGES_BODY,
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
    model: ModelQuery = LATEST,
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
    images = await read_images(request, services.settings.max_queued_predictions)
    left_ms = count_left_ms(request, timeout_ms)
    working = _classify(services, caller, model, [data for _, data in images], top_k, sticky, calibrated)
    classified = await unless_gone(request, working, left_ms)
    if classified is None:
        return answer_nobody()
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


async def _classify(
    services: Services, caller: str, model: str, images: list[bytes], top_k: int, sticky: str | None, calibrated: bool
) -> Classified:
    """Classify images, with calibrated probabilities if that is asked for: a calibration is made at first use."""
    classify = services.engine.classify
    classified = await classify(caller, model, images, top_k, sticky, calibrated)
    if not calibrated or classified.facts is not None:
        return classified
    checkpoint = await anyio.to_thread.run_sync(find_checkpoint, services.database, caller, classified.model.checkpoint)
    await get_calibration(services.database, services.insight, checkpoint)
    classified = await classify(caller, model, images, top_k, sticky, calibrated)
    if classified.facts is None:
        raise InsightInProgress("another checkpoint has just become the model: ask again", retry_after_s=1)
    return classified


def _is_plain(request: Request) -> bool:
    """Whether a request's body is one image, and nothing about it is unusual."""
    query, headers = request.query_params, request.headers
    return (
        is_raw_image(request)
        and _UNUSUAL_HEADERS.isdisjoint(headers.keys())
        and query.keys() <= {"model", "top_k"}
        and len(query.get("model", LATEST)) <= MAX_REFERENCE
        and _PLAIN_NUMBER.fullmatch(query.get("top_k", "5")) is not None
    )


async def _predict_plainly(request: Request) -> Response:
    started = time.perf_counter()
    query = request.query_params
    model, top_k = query.get("model", LATEST), int(query.get("top_k", "5"))
    services, caller = await get_services(request), await get_caller(request)
    working = services.engine.classify(caller, model, [await request.body()], top_k)
    classified = await unless_gone(request, working)
    if classified is None:
        return answer_nobody()
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


#: Answers as `predict` does, for the requests that most clients send.
quick_route = QuickRoute("POST", "/predict", _predict_plainly, _is_plain)


def _list_answered(classified: Classified) -> list[Outcome]:
    """Return what was answered.

    Raises:
        ServiceError: nothing was; why the first image was refused.
    """
    answered = [outcome for outcome in classified.outcomes if outcome.refusal is None]
    if not answered:
        raise next(outcome.refusal.to_error() for outcome in classified.outcomes if outcome.refusal is not None)
    return answered


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
