"""Receives a dataset's file as the body of one request: as `file` of a form, or as the body itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from api.http.admission import announced_bytes
from api.uploads.forms import UploadForm
from api.uploads.reception import Reception
from trainyard.errors import UnsupportedMedia

FORM = "multipart/form-data"
RAW_TYPES = frozenset(
    {
        "application/zip",
        "application/x-zip-compressed",
        "application/x-tar",
        "application/gzip",
        "application/x-gzip",
        "application/zstd",
        "application/octet-stream",
    }
)


@dataclass(frozen=True)
class ReceivedFile:
    """A file that is complete and stored, and what came with it."""

    upload_id: str
    fields: dict[str, str] = field(default_factory=dict)  #: of the form


async def receive_body(request: Request, reception: Reception, owner: str) -> ReceivedFile:
    """Receive the file in a request's body. If anything goes wrong, nothing of it stays.

    Raises:
        ServiceError: the body has another type, is too large or damaged, or there is no space for it.
    """
    kind = check_type(request)
    form = UploadForm(request.headers["content-type"]) if kind == FORM else None
    announced = announced_bytes(request.scope["headers"])
    upload_id = await reception.receive_whole(owner, request.stream(), announced=announced, form=form)
    return ReceivedFile(upload_id, form.fields if form is not None else {})


def check_type(request: Request) -> str:
    """Return the Content-Type of a body that is a file, without its parameters.

    Raises:
        UnsupportedMedia: it is none that is taken.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM and kind not in RAW_TYPES:
        raise UnsupportedMedia(
            f"Content-Type is {kind[:100]!r}: send the archive as multipart field `file`, or as the body with "
            "`application/zip`, `application/x-tar`, `application/gzip`, `application/zstd` or "
            "`application/octet-stream`; or name an `upload` or a `path` as `application/json`"
        )
    return kind
