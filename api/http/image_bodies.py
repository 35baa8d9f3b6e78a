"""Requests whose body is an image, or a form with images: how OpenAPI describes them, and how they are read."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from trainyard.errors import InvalidRequest, UnsupportedMedia

MAX_FIELDS = 16
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _body_of(file: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "object", "required": ["file"], "properties": {"file": file}}
    content = {"multipart/form-data": {"schema": form}, "image/*": _BINARY, "application/octet-stream": _BINARY}
    return {"requestBody": {"required": True, "content": content}}


#: The body of a request with one image, and with one or several, as OpenAPI has it.
IMAGE_BODY = _body_of(_BINARY["schema"])
IMAGES_BODY = _body_of({"type": "array", "items": _BINARY["schema"]})


def is_raw_image(request: Request) -> bool:
    """Return whether the body itself is the image."""
    kind = _kind_of(request)
    return kind == "application/octet-stream" or kind.startswith("image/")


async def read_image(request: Request) -> bytes:
    """Return the image of a request: the multipart field `file`, or the body itself.

    Raises:
        UnsupportedMedia, InvalidRequest: there is none.
    """
    [(_, image)] = await read_images(request, 1)
    return image


async def read_images(request: Request, max_files: int) -> list[tuple[str, bytes]]:
    """Return the images of a request, at least one, each with its file's name: empty where the body is the image.

    Raises:
        UnsupportedMedia, InvalidRequest: there is none.
    """
    if is_raw_image(request):
        return [("", await request.body())]
    if _kind_of(request) != "multipart/form-data":
        raise UnsupportedMedia(
            f"Content-Type is {_kind_of(request)[:100]!r}: send the image as multipart field `file`, "
            "or as the body with `image/…` or `application/octet-stream`"
        )
    async with request.form(max_files=max_files, max_fields=MAX_FIELDS) as form:
        parts = form.getlist("file")
        if not parts or not all(isinstance(part, UploadFile) for part in parts):
            raise InvalidRequest("there is no file: send the image as multipart field `file`", param="file")
        return [(part.filename or "", await part.read()) for part in parts if isinstance(part, UploadFile)]


def _kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
