"""`POST /explain` and `POST /activations`: why a network answers as it does, and what it computes, drawn."""

from __future__ import annotations

import base64
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from alexnet_core.evaluation.scores import Guess
from alexnet_core.insight.heat_maps import MAX_PX, MIN_PX
from alexnet_core.insight.methods import Method, Scale, View
from alexnet_core.insight.protocol import Activate, Explain
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.image_bodies import IMAGE_BODY, read_image
from api.reading.checkpoint_reader import find_model
from api.routes.queries import ModelQuery
from api.schemas.insight import ExplanationRead, SubjectRead
from api.schemas.predictions import LabelRead
from api.services import CallerDep, ServicesDep
from trainyard.artifacts.checkpoints import LATEST
from trainyard.errors import (
    BodyUnreadable,
    CheckpointIncompatible,
    CheckpointNotFound,
    CheckpointPruned,
    DatabaseUnavailable,
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    JobNotFound,
    NoCheckpoint,
    NoCheckpointOfJob,
    StorageUnavailable,
    TooLarge,
    TooManyUploads,
    UnsupportedImageFormat,
    UnsupportedMedia,
)
from trainyard.insight_errors import InsightFailed, InsightQueueFull
from trainyard.serving_errors import AliasNotFound

router = APIRouter(tags=["insight"], route_class=GuardedRoute)

_PNG = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
#: What every request with a model and an image may be refused with.
REFUSALS = (
    *(
        JobNotFound,
        AliasNotFound,
        CheckpointNotFound,
        CheckpointPruned,
        NoCheckpointOfJob,
        NoCheckpoint,
        CheckpointIncompatible,
    ),
    *(InvalidRequest, InvalidImage, ImageTooLarge, UnsupportedImageFormat, UnsupportedMedia, BodyUnreadable, TooLarge),
    *(TooManyUploads, InsightQueueFull, InsightFailed, DatabaseUnavailable, StorageUnavailable),
)
ScaleQuery = Annotated[
    Scale, Query(description="`common`: black and white are the extremes of all together; `own`: of each alone.")
]


@router.post(
    "/explain",
    summary="Explain an answer",
    response_description="A PNG, or JSON if that is accepted. `X-Trainyard-Checkpoint` names the checkpoint.",
    response_class=Response,
    openapi_extra=IMAGE_BODY,
    responses=errors.responses(
        *REFUSALS,
        success={200: {"content": _PNG, "model": ExplanationRead}},
    ),
)
async def explain(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    model: ModelQuery = LATEST,
    method: Annotated[Method, Query(description="How to find what speaks for the class.")] = Method.GRAD_CAM,
    target: Annotated[
        str | None, Query(max_length=200, description="Name of the class to explain. Default: the most probable one.")
    ] = None,
    view: Annotated[
        View, Query(description="`heat`: a heat map with transparency; `overlay`: the image with it.")
    ] = View.HEAT,
    px: Annotated[
        int | None,
        Query(ge=MIN_PX, le=MAX_PX, description="Longer side of the picture. Default: that of the image, up to 1024."),
    ] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Draw what in an image speaks for a class (vermilion) and against it (blue), to be laid over the image.

    What the network does not see of the image is transparent. With `Accept: application/json` the answer has the most
    probable classes, too.
    """
    image = await read_image(request)
    checkpoint = await anyio.to_thread.run_sync(find_model, services.database, caller, model)
    answer, picture = await services.insight.ask(
        checkpoint,
        lambda opened: Explain(
            checkpoint=opened.checkpoint, manifest_sha256=opened.manifest_sha256, method=method, target=target,
            view=view, px=px,
        ),
        image,
    )  # fmt: skip
    headers = {"X-Trainyard-Checkpoint": checkpoint.id}
    if "application/json" not in (accept or ""):
        return Response(picture, headers=headers, media_type="image/png")
    assert answer.target is not None
    body = ExplanationRead(
        model=SubjectRead.of(checkpoint),
        method=method,
        target=_describe(answer.target),
        predictions=[_describe(one) for one in answer.predictions],
        picture=f"data:image/png;base64,{base64.b64encode(picture).decode()}",
    )
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")


@router.post(
    "/activations",
    summary="Draw what a layer computes",
    response_description="A PNG. `X-Trainyard-Checkpoint` names the checkpoint.",
    response_class=Response,
    openapi_extra=IMAGE_BODY,
    responses=errors.responses(*REFUSALS, success={200: {"content": _PNG}}),
)
async def draw_activations(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    layer: Annotated[
        str,
        Query(max_length=40, description="Name of the layer, such as `conv1`, `relu5`, `pool5` or `fc7`."),
    ],
    model: ModelQuery = LATEST,
    scale: ScaleQuery = "common",
) -> Response:
    """Draw what a layer computes for an image: its maps, sixteen in a row, or its units, which fill a square."""
    image = await read_image(request)
    checkpoint = await anyio.to_thread.run_sync(find_model, services.database, caller, model)
    _, picture = await services.insight.ask(
        checkpoint,
        lambda opened: Activate(
            checkpoint=opened.checkpoint, manifest_sha256=opened.manifest_sha256, layer=layer, scale=scale
        ),
        image,
    )
    return Response(picture, headers={"X-Trainyard-Checkpoint": checkpoint.id}, media_type="image/png")


def _describe(guess: Guess) -> LabelRead:
    return LabelRead(label=guess.label, index=guess.index, probability=guess.probability)
