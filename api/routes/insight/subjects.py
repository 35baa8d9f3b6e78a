"""What requests for insight are about: a checkpoint and an image. With the parameters that they share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from starlette.datastructures import UploadFile

from api.schemas.insight import SubjectRead
from api.services import Services
from trainyard.artifacts import checkpoints
from trainyard.artifacts.checkpoints import LATEST
from trainyard.database.tables import Checkpoint
from trainyard.errors import InvalidRequest, UnsupportedMedia

ModelQuery = Annotated[
    str,
    Query(
        max_length=200,
        description="`latest`, an alias, `job_…` (its best), `job_…@latest`, `job_…@epoch-3` or `ckpt_…`.",
    ),
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
#: The body of a request with one image, as OpenAPI has it.
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
        },
    }
}


def find_model(services: Services, caller: str, reference: str = LATEST) -> Checkpoint:
    """Return the checkpoint that a reference names.

    Raises:
        ServiceError: what `checkpoints.resolve_model` raises.
    """
    with services.database.reading() as session:
        return checkpoints.resolve_model(session, caller, reference)


def find_checkpoint(services: Services, caller: str, checkpoint_id: str) -> Checkpoint:
    """Return a checkpoint by its id.

    Raises:
        CheckpointNotFound, CheckpointPruned: see there.
    """
    with services.database.reading() as session:
        return checkpoints.get_checkpoint(session, caller, checkpoint_id)


def describe_subject(checkpoint: Checkpoint) -> SubjectRead:
    """Return a checkpoint as answers name it."""
    return SubjectRead(
        checkpoint=checkpoint.id,
        job=checkpoint.job_id,
        epoch=checkpoint.epoch,
        weights_sha256=checkpoint.weights_sha256,
    )


async def read_image(request: Request) -> bytes:
    """Return the image of a request: the multipart field `file`, or the body itself.

    Raises:
        UnsupportedMedia, InvalidRequest: there is none.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/octet-stream" or content_type.startswith("image/"):
        return await request.body()
    if content_type != "multipart/form-data":
        raise UnsupportedMedia(
            f"Content-Type is {content_type[:100]!r}: send the image as multipart field `file`, "
            "or as the body with `image/…` or `application/octet-stream`"
        )
    async with request.form(max_files=1, max_fields=16) as form:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            raise InvalidRequest("there is no file: send the image as multipart field `file`", param="file")
        return await part.read()
