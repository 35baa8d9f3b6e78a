"""`POST /similar`: the training images that a network takes for the most alike to an image."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from alexnet_core.insight.methods import PassKind
from alexnet_core.insight.protocol import FindSimilar
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.image_bodies import IMAGE_BODY, read_image
from api.insight.training_data import find_training_data
from api.reading.checkpoint_reader import find_model
from api.routes.insight.explanations import REFUSALS
from api.routes.queries import ModelQuery
from api.schemas.insight import SimilarImagesRead, SubjectRead
from api.services import CallerDep, ServicesDep
from trainyard.artifacts.checkpoints import LATEST
from trainyard.errors import DatasetNotFound, DatasetNotReady, DatasetRejected
from trainyard.insight_errors import DatasetDiffers, InsightInProgress

router = APIRouter(tags=["insight"], route_class=GuardedRoute)


@router.post(
    "/similar",
    summary="Find similar training images",
    response_description="The images, the most alike first. `X-Trainyard-Checkpoint` names the checkpoint.",
    openapi_extra=IMAGE_BODY,
    responses=errors.responses(
        *REFUSALS, *(DatasetNotFound, DatasetNotReady, DatasetRejected, DatasetDiffers, InsightInProgress)
    ),
)
async def find_similar(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    model: ModelQuery = LATEST,
    k: Annotated[int, Query(ge=1, le=100, description="How many images to find.")] = 10,
) -> SimilarImagesRead:
    """Find the training images that are closest to an image in the network's last hidden layer.

    The first request for a checkpoint lets an index be made of its training images. As long as that takes, the answer
    is 503 `insight_in_progress`, whose `Retry-After` says when to ask again.
    """
    image = await read_image(request)
    checkpoint = await anyio.to_thread.run_sync(find_model, services.database, caller, model)
    pack, _ = await anyio.to_thread.run_sync(find_training_data, services.database, checkpoint)
    index = await services.insight.need(checkpoint, pack, PassKind.INDEX, "train")
    try:
        answer, _ = await services.insight.ask(
            checkpoint, lambda opened: FindSimilar(**vars(opened), index=index, k=k), image, pack=pack
        )
    except InsightInProgress:  # the index can't be read
        await anyio.to_thread.run_sync(services.insight.forget, checkpoint, PassKind.INDEX, "train")
        raise
    response.headers["X-Trainyard-Checkpoint"] = checkpoint.id
    return SimilarImagesRead.of(SubjectRead.of(checkpoint), pack.dataset_id, answer.num_indexed, answer.similar)
