"""`/v2`: the Open Inference Protocol over HTTP, for clients that speak it (tritonclient, KServe's, MLServer's)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import anyio.to_thread
import numpy as np
from fastapi import APIRouter, Header, Path, Request, Response
from sqlalchemy.orm import Session

from api.http import errors
from api.http.client_patience import TimeoutHeader, answer_nobody, count_left_ms, unless_gone
from api.http.errors import Responses
from api.http.guarded_route import GuardedRoute
from api.open_inference.answers import LABELS, PROBABILITIES, build_outputs, check_outputs, encode, most_named
from api.open_inference.requests import Images, check_pixels, read_request
from api.routes.health import look
from api.routes.queries import StickyHeader
from api.schemas.open_inference import (
    IndexEntry,
    IndexRequest,
    InferAnswer,
    Live,
    ModelMetadata,
    ModelParameters,
    ModelReady,
    ProtocolError,
    Ready,
    ServerMetadata,
    TensorMetadata,
)
from api.services import CallerDep, Services, ServicesDep
from api.serving.interface import ImageForm, Inferred
from trainyard import __version__
from trainyard.artifacts.checkpoints import resolve_model
from trainyard.artifacts.naming.model_versions import list_models, list_versions, resolve_version, version_of
from trainyard.errors import (
    CheckpointIncompatible,
    CheckpointNotFound,
    CheckpointPruned,
    DatabaseUnavailable,
    ImageTooLarge,
    InUse,
    InvalidImage,
    InvalidRequest,
    JobNotFound,
    JsonInvalid,
    ModelLoading,
    NoCheckpoint,
    NoCheckpointOfJob,
    PredictQueueFull,
    ServiceError,
    StorageUnavailable,
    TooLarge,
    TooManyUploads,
    UnsupportedImageFormat,
    UnsupportedMedia,
)
from trainyard.serving_errors import AliasNotFound, CheckpointUnusable, DeadlineExceeded

router = APIRouter(prefix="/v2", tags=["open inference"], route_class=GuardedRoute)

T = TypeVar("T")

EXTENSIONS = ["binary_tensor_data", "classification", "model_repository"]
JSON_LENGTH = "Inference-Header-Content-Length"
MAX_JSON_BYTES = 8 * 1024 * 1024  #: of a request; what is larger is sent as binary data
_IN_A_THREAD_BYTES = 64 * 1024

ModelPath = Annotated[
    str,
    Path(max_length=200, description="`latest`, an alias, `job_…`, or whatever else `?model=` of `/predict` takes."),
]
VersionPath = Annotated[
    str,
    Path(
        max_length=40,
        description="Of a job an epoch, of an alias a move, of `latest` a publication number, of a checkpoint `1`.",
    ),
]
_NO_MODEL = (JobNotFound, AliasNotFound, CheckpointNotFound, CheckpointPruned, NoCheckpointOfJob, NoCheckpoint)
_NOT_READY = (*_NO_MODEL, CheckpointIncompatible, ModelLoading, InvalidRequest, DatabaseUnavailable)
_IMAGES = (JsonInvalid, InvalidImage, ImageTooLarge, UnsupportedImageFormat, TooLarge, UnsupportedMedia)


def _refusals(*kinds: type[ServiceError], success: Responses | None = None) -> Responses:
    """Return the entries of a route's OpenAPI `responses`: refusals have the protocol's own body."""
    listed = errors.responses(*kinds, success=success)
    return {key: it | {"model": ProtocolError} if int(key) >= 400 else it for key, it in listed.items()}


@router.get("", summary="About the server", responses=_refusals())
async def get_server() -> ServerMetadata:
    """Return the server's name, version and extensions of the protocol."""
    return ServerMetadata(name="trainyard", version=__version__, extensions=EXTENSIONS)


@router.get("/health/live", summary="Live, by the protocol", responses=_refusals())
async def get_live() -> Live:
    """Tell whether the process answers."""
    return Live(live=True)


@router.get(
    "/health/ready",
    summary="Ready, by the protocol",
    responses=_refusals(success={503: {"model": Ready, "description": "Not ready: `GET /readyz` says why."}}),
)
def get_ready(response: Response, services: ServicesDep) -> Ready:
    """Tell whether requests should be sent here, as `GET /readyz` does."""
    is_ready = look(services).status == "ready"
    if not is_ready:
        response.status_code = 503
    return Ready(ready=is_ready)


@router.get("/models/{name}", summary="About a model", responses=_refusals(*_NOT_READY))
async def get_model(name: ModelPath, services: ServicesDep, caller: CallerDep) -> ModelMetadata:
    """Return a model's versions, inputs and outputs. It is loaded if it is not yet."""
    versions = await _reading(services, lambda session: list_versions(session, caller, name))
    return await _describe(services, caller, name, name, versions)


@router.get("/models/{name}/versions/{version}", summary="About a version of a model", responses=_refusals(*_NOT_READY))
async def get_model_version(
    name: ModelPath, version: VersionPath, services: ServicesDep, caller: CallerDep
) -> ModelMetadata:
    """Return inputs and outputs of one version of a model. It is loaded if it is not yet."""
    return await _describe(services, caller, name, await _of_version(services, caller, name, version), [version])


@router.get("/models/{name}/ready", summary="Model ready?", responses=_refusals(*_NOT_READY))
async def get_model_ready(name: ModelPath, services: ServicesDep, caller: CallerDep) -> ModelReady:
    """Tell whether a model can answer: 200 if so. It is loaded if it is not yet."""
    await services.engine.describe(caller, name)
    return ModelReady(name=name, ready=True)


@router.get(
    "/models/{name}/versions/{version}/ready",
    summary="Version of a model ready?",
    responses=_refusals(*_NOT_READY),
)
async def get_model_version_ready(
    name: ModelPath, version: VersionPath, services: ServicesDep, caller: CallerDep
) -> ModelReady:
    """Tell whether one version of a model can answer: 200 if so. It is loaded if it is not yet."""
    await services.engine.describe(caller, await _of_version(services, caller, name, version))
    return ModelReady(name=name, ready=True)


_ALL = IndexRequest(ready=False)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
JsonLengthHeader = Annotated[
    str | None,
    Header(
        alias=JSON_LENGTH,
        max_length=40,
        description="Bytes of the JSON at the body's beginning; binary data follows it.",
    ),
]


@router.post(
    "/models/{name}/infer",
    summary="Classify images by the protocol",
    response_model=InferAnswer,
    openapi_extra=_BODY,
    responses=_refusals(*_NOT_READY, *_IMAGES, DeadlineExceeded, PredictQueueFull, TooManyUploads),
)
async def infer(
    request: Request,
    name: ModelPath,
    services: ServicesDep,
    caller: CallerDep,
    json_length: JsonLengthHeader = None,
    sticky: StickyHeader = None,
    timeout_ms: TimeoutHeader = None,
) -> Response:
    """Classify images that are sent as a tensor: files, decoded images or the network's input."""
    return await _infer(request, services, caller, name, name, None, json_length, sticky, timeout_ms)


@router.post(
    "/models/{name}/versions/{version}/infer",
    summary="Classify images with a version of a model",
    response_model=InferAnswer,
    openapi_extra=_BODY,
    responses=_refusals(*_NOT_READY, *_IMAGES, DeadlineExceeded, PredictQueueFull, TooManyUploads),
)
async def infer_with_version(
    request: Request,
    name: ModelPath,
    version: VersionPath,
    services: ServicesDep,
    caller: CallerDep,
    json_length: JsonLengthHeader = None,
    timeout_ms: TimeoutHeader = None,
) -> Response:
    """Classify images with one version of a model."""
    reference = await _of_version(services, caller, name, version)
    return await _infer(request, services, caller, name, reference, version, json_length, None, timeout_ms)


@router.post("/repository/index", summary="List models", responses=_refusals(InvalidRequest, DatabaseUnavailable))
async def list_repository(services: ServicesDep, caller: CallerDep, body: IndexRequest = _ALL) -> list[IndexEntry]:
    """List `latest`, your aliases and the jobs with the newest checkpoints. One that is not loaded can be used too."""
    models = await _reading(services, lambda session: list_models(session, caller))
    loaded = set(await services.engine.list_loaded())
    entries = [
        IndexEntry(
            name=it.name,
            version=it.version,
            state="READY" if it.checkpoint_id in loaded else "UNAVAILABLE",
            reason="" if it.checkpoint_id in loaded else "loaded when it is used",
        )
        for it in models
    ]
    return [it for it in entries if it.state == "READY" or not body.ready]


@router.post(
    "/repository/models/{name}/load",
    summary="Load a model",
    responses=_refusals(*_NOT_READY, CheckpointUnusable, StorageUnavailable),
)
async def load_model(name: ModelPath, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """Load a model, verify it and compute an image with it. Nothing that the body says is needed for that."""
    checkpoint_id = await _reading(services, lambda session: resolve_model(session, caller, name).id)
    await services.engine.warm(caller, {"model": checkpoint_id})
    return {}


@router.post(
    "/repository/models/{name}/unload",
    summary="Unload a model",
    responses=_refusals(*_NO_MODEL, InUse, InvalidRequest, DatabaseUnavailable),
)
async def unload_model(name: ModelPath, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """Take a model out of memory. It is loaded again when it is used. `latest` and what aliases name stay."""
    checkpoint_id = await _reading(services, lambda session: resolve_model(session, caller, name).id)
    if not await services.engine.unload(checkpoint_id):
        raise InUse(f"checkpoint {checkpoint_id} answers for `latest` or an alias, so it stays loaded", param="model")
    return {}


async def _infer(
    request: Request,
    services: Services,
    caller: str,
    name: str,
    reference: str,
    version: str | None,
    json_length: str | None,
    sticky: str | None,
    timeout_ms: int | None,
) -> Response:
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMedia("the body is compressed: send it as it is")
    body = await request.body()
    if int(json_length[:20] if json_length is not None and json_length.isdecimal() else len(body)) > MAX_JSON_BYTES:
        raise TooLarge(f"the JSON has more than {MAX_JSON_BYTES} bytes: send the images as binary data")
    if len(body) > _IN_A_THREAD_BYTES:
        parsed, images = await anyio.to_thread.run_sync(read_request, body, json_length)
    else:
        parsed, images = read_request(body, json_length)
    del body
    check_outputs(parsed)
    check_pixels(images, services.settings.max_image_pixels)
    left_ms = count_left_ms(request, timeout_ms)
    working = _ask(services, caller, reference, images, most_named(parsed), sticky)
    inferred = await unless_gone(request, working, left_ms)
    if inferred is None:
        return answer_nobody()
    model = inferred.model
    probabilities_NK = np.array(inferred.probabilities, np.float32)
    content: dict[str, Any] = {
        "model_name": name,
        "model_version": version or version_of(reference, version=model.version, epoch=model.epoch),
        **({} if parsed.id is None else {"id": parsed.id}),
        "parameters": {key: value for key, value in asdict(model).items() if value is not None},
    }
    answer, length = encode(content, build_outputs(parsed, probabilities_NK, inferred.named))
    headers = {"X-Trainyard-Checkpoint": model.checkpoint} | ({} if length is None else {JSON_LENGTH: str(length)})
    media = "application/json" if length is None else "application/octet-stream"
    return Response(answer, headers=headers, media_type=media)


async def _ask(
    services: Services, caller: str, reference: str, images: Images, num_named: int, sticky: str | None
) -> Inferred:
    return await services.engine.infer(
        owner=caller,
        reference=reference,
        images=images.parts,
        form=ImageForm(images.datatype),
        shape=list(images.shape or ()),
        num_named=num_named,
        sticky=sticky,
    )


async def _describe(services: Services, caller: str, name: str, reference: str, versions: list[str]) -> ModelMetadata:
    found = await services.engine.describe(caller, reference)
    model, num_classes = found.model, len(found.class_names)
    others = [
        TensorMetadata(name="pixels", datatype=ImageForm.PIXELS, shape=[-1, -1, -1, 3]),
        TensorMetadata(name="values", datatype=ImageForm.VALUES, shape=[-1, *found.input_shape]),
    ]
    return ModelMetadata(
        name=name,
        versions=versions,
        platform="trainyard_alexnet",
        inputs=[TensorMetadata(name="image", datatype=ImageForm.FILES, shape=[-1])],
        outputs=[
            TensorMetadata(name=PROBABILITIES, datatype="FP32", shape=[-1, num_classes]),
            TensorMetadata(name=LABELS, datatype="BYTES", shape=[-1]),
        ],
        parameters=ModelParameters(
            checkpoint=model.checkpoint,
            job=model.job,
            epoch=model.epoch,
            weights_sha256=model.weights_sha256,
            precision=found.precision,
            agreement=None if found.agreement is None else found.agreement.share,
            class_names=found.class_names,
            other_inputs=others,
        ),
    )


async def _of_version(services: Services, caller: str, name: str, version: str) -> str:
    return await _reading(services, lambda session: resolve_version(session, caller, name, version))


async def _reading(services: Services, work: Callable[[Session], T]) -> T:
    def read() -> T:
        with services.database.reading() as session:
            return work(session)

    return await anyio.to_thread.run_sync(read)
