"""Requests whose body is an image, or a form with images: how OpenAPI describes them, and how they are read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from trainyard.errors import BodyUnreadable, InvalidRequest, UnsupportedMedia

MAX_FIELDS = 16
#: Bytes that a client may send before the first boundary of a form (line ends only), and after the last.
MOST_AROUND = 4096
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
        BodyUnreadable: the form is malformed.
    """
    if is_raw_image(request):
        return [("", await request.body())]
    if _kind_of(request) != "multipart/form-data":
        raise UnsupportedMedia(
            f"Content-Type is {_kind_of(request)[:100]!r}: send the image as multipart field `file`, "
            "or as the body with `image/…` or `application/octet-stream`"
        )
    try:
        form = await _ImageForm(request, max_files).parse()
    except MultiPartException as exc:
        raise BodyUnreadable(exc.message) from exc
    try:
        return await _read_files(form)
    finally:
        await form.close()


async def _read_files(form: FormData) -> list[tuple[str, bytes]]:
    fields = [name for name, part in form.multi_items() if not isinstance(part, UploadFile)]
    for name in fields:
        if fields.count(name) > 1:
            raise BodyUnreadable(f"the field {name[:100]!r} comes twice: send it once", param=name[:100])
    parts = form.getlist("file")
    files = [part for part in parts if isinstance(part, UploadFile)]
    if not files or len(files) < len(parts):
        raise InvalidRequest("there is no file: send the image as multipart field `file`", param="file")
    if any((file.content_type or "").lower().startswith("multipart/") for file in files):
        raise BodyUnreadable("`file` is a form of its own: send the image itself", param="file")
    return [(file.filename or "", await file.read()) for file in files]


class _ImageForm(MultiPartParser):
    """Starlette's parser of forms, which would take a form that was cut off for a whole one with fewer images."""

    def __init__(self, request: Request, max_files: int) -> None:
        super().__init__(request.headers, self._check(request.stream()), max_files=max_files, max_fields=MAX_FIELDS)
        self._has_begun = self._has_ended = False

    def on_part_begin(self) -> None:
        """See Starlette."""
        self._has_begun = True
        super().on_part_begin()

    def on_end(self) -> None:
        """See Starlette."""
        self._has_ended = True

    async def _check(self, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Yield the body's pieces. What is raised here closes the form's files."""
        around = 0
        async for piece in pieces:
            if self._has_ended:
                around += len(piece)
            elif not self._has_begun:
                around += len(piece) - len(piece.lstrip(b"\r\n"))  # the parser skips any number of them
            if around > MOST_AROUND:
                raise MultiPartException("the body goes on before or after the form: send nothing but the form")
            yield piece
        if not self._has_ended:
            raise MultiPartException("the form ends before its last boundary: send all of it")


def _kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
