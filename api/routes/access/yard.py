"""`GET /yard`: what a page must know of a yard before it asks for anything else."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.routing import BaseRoute

from api.http.guarded_route import GuardedRoute
from api.schemas.base import DESCRIBED
from api.services import ServicesDep
from trainyard.build import build_id

router = APIRouter(tags=["access"], route_class=GuardedRoute)


class Feature(StrEnum):
    """A part of the API that an older yard may lack."""

    SESSION = "session"
    KEYS = "keys"
    EVENTS = "events"
    ROWS = "rows"
    JOB_EDIT = "job_edit"
    ZOOM = "zoom"
    SERIES = "series"
    PREVIEW = "preview"
    LOG_BYTES = "log_bytes"
    DATASET_IMAGES = "dataset_images"
    UPLOADS = "uploads"
    EVALUATION = "evaluation"
    EXPLANATIONS = "explanations"
    SIMILAR = "similar"
    ALIASES = "aliases"
    MANY_PREDICTIONS = "many_predictions"


#: By which route each feature is known: method, path and, where it is only a parameter of the route, its name.
ROUTES: dict[Feature, tuple[str, str, str | None]] = {
    Feature.SESSION: ("POST", "/session", None),
    Feature.KEYS: ("POST", "/keys", None),
    Feature.EVENTS: ("GET", "/events", None),
    Feature.ROWS: ("GET", "/jobs", "view"),
    Feature.JOB_EDIT: ("PATCH", "/jobs/{job_id}", None),
    Feature.ZOOM: ("GET", "/jobs/{job_id}/metrics", "from_step"),
    Feature.SERIES: ("GET", "/series", None),
    Feature.PREVIEW: ("POST", "/recipes/preview", None),
    Feature.LOG_BYTES: ("GET", "/jobs/{job_id}/logs", "from_byte"),
    Feature.DATASET_IMAGES: ("GET", "/datasets/{dataset_id}/images", None),
    Feature.UPLOADS: ("POST", "/uploads", None),
    Feature.EVALUATION: ("GET", "/jobs/{job_id}/evaluation", None),
    Feature.EXPLANATIONS: ("POST", "/explain", None),
    Feature.SIMILAR: ("POST", "/similar", None),
    Feature.ALIASES: ("GET", "/aliases", None),
    Feature.MANY_PREDICTIONS: ("POST", "/predictions", None),
}


class YardLimits(BaseModel):
    """What a client may send; the settings of the same names."""

    model_config = DESCRIBED

    max_upload_bytes: int
    """Largest body of `POST /predict`."""
    max_body_bytes: int
    """Largest body of any other request that is not a file for a dataset."""
    max_dataset_upload_bytes: int
    """Largest file of which a dataset can be made."""
    max_dataset_files: int
    """Most members of such a file."""
    max_image_pixels: int
    """Largest image that is decoded."""
    max_queued_predictions: int
    """Most images of one request to predict, and most that may wait."""


class YardRead(BaseModel):
    """A yard, as anybody sees it."""

    model_config = DESCRIBED

    version: str
    """The build that answers."""
    needs_key: bool
    """Whether requests need a key or a session."""
    features: list[Feature]
    """Parts of the API that this build has; one that a client does not know can be ignored."""
    limits: YardLimits


@router.get("/yard", summary="Get the yard")
async def get_yard(request: Request, services: ServicesDep) -> YardRead:
    """Return what a page must know before it asks for anything else. It needs no key, and tells nothing about jobs."""
    return YardRead(
        version=build_id(),
        needs_key=services.gate.needs_key,
        features=_features_of(request.app),
        limits=YardLimits.model_validate(services.settings),
    )


@lru_cache(maxsize=1)
def _features_of(app: FastAPI) -> list[Feature]:
    return list_features(app.routes)  # looks at every route: far more work than the rest of the answer


def list_features(routes: Iterable[BaseRoute]) -> list[Feature]:
    """Return the features that an app with these routes has."""
    there: dict[tuple[str, str], set[str]] = {}
    for route in iter_route_contexts(list(routes)):
        names = set() if route.endpoint is None else set(inspect.signature(route.endpoint).parameters)
        for method in route.methods or ():
            there[method, route.path or ""] = names
    return [
        feature
        for feature, (method, path, parameter) in ROUTES.items()
        if (method, path) in there and (parameter is None or parameter in there[method, path])
    ]
