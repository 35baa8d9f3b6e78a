"""`/datasets/{dataset_id}/images` and pictures of many: what is in a dataset, to look at.

A dataset never changes, so neither does an answer. Each is made once, in threads of its own, and kept for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from alexnet_core.data.inspection import preview, thumbnails
from alexnet_core.data.inspection.mean_image import compute_mean
from alexnet_core.data.inspection.selection import (
    count_by_class,
    describe,
    find_label,
    find_position,
    select,
    skip_until_after,
)
from alexnet_core.data.pack import Pack
from api.downloads.stored_packs import StoredPack
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.validators import NOT_MODIFIED, IfNoneMatch, is_known, lasting_headers, tag_headers
from api.routes.queries import DatasetPath, LabelQuery, LimitQuery, Split, SplitPath, SplitQuery
from api.schemas.base import ListRead
from api.schemas.dataset_images import DatasetImageRead, HistogramRead
from api.services import CallerDep, Services, ServicesDep
from trainyard import __version__
from trainyard.artifacts import datasets
from trainyard.errors import (
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetNotReady,
    DatasetRejected,
    ImageNotFound,
    InvalidRequest,
    StorageUnavailable,
    TooManyPictures,
)

router = APIRouter(prefix="/datasets/{dataset_id}", tags=["datasets"], route_class=GuardedRoute)

IMAGE_ID = r"^(train|validation|test)-[0-9]{1,12}$"
_MOST = 10**12
_PNG = {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}} | NOT_MODIFIED
_REFUSALS = (
    *(DatasetNotFound, DatasetNotReady, DatasetRejected, InvalidRequest),
    *(TooManyPictures, DatabaseUnavailable, StorageUnavailable),
)

AfterImageQuery = Annotated[str | None, Query(pattern=IMAGE_ID, description="`last_id` of the previous page.")]
ImagePxQuery = Annotated[
    int | None,
    Query(
        ge=thumbnails.MIN_PX, le=thumbnails.MAX_PX, description="Side of the picture. Default: as the image is stored."
    ),
]
TilePxQuery = Annotated[
    int, Query(ge=thumbnails.MIN_PX, le=thumbnails.MAX_TILE_PX, description="Side of each image in the picture.")
]
PageQuery = Annotated[int, Query(ge=0, le=_MOST, description="Number of the page, from 0.")]


@router.get(
    "/images",
    summary="List a dataset's images",
    response_model=ListRead[DatasetImageRead],
    responses=errors.responses(*_REFUSALS, success=NOT_MODIFIED),
)
async def list_images(
    dataset_id: DatasetPath,
    services: ServicesDep,
    caller: CallerDep,
    split: SplitQuery = None,
    label: LabelQuery = None,
    limit: LimitQuery = 20,
    after: AfterImageQuery = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a page of a dataset's images: training images first, then in the order in which they are stored."""

    def draw(pack: Pack, stored: StoredPack) -> bytes:
        positions = select(pack, split=split, label=_require_label(pack, label))
        if after is not None:
            positions = skip_until_after(pack, positions, _require_last(pack, after))
        images = [DatasetImageRead.of(stored.dataset_id, place) for place in describe(pack, positions[:limit])]
        return ListRead[DatasetImageRead].of(images, has_more=len(positions) > limit).model_dump_json().encode()

    look = _Look(services, caller, dataset_id, if_none_match, "application/json")
    return await look.answer(("images", split, label, limit, after), draw)


@router.get(
    "/images/{split}/{index}",
    summary="Draw an image of a dataset",
    response_description="A PNG.",
    response_class=Response,
    responses=errors.responses(ImageNotFound, *_REFUSALS, success=_PNG),
)
async def get_image(
    dataset_id: DatasetPath,
    split: SplitPath,
    index: Annotated[int, Path(ge=0, le=_MOST, description="The image's place in its split, from 0.")],
    services: ServicesDep,
    caller: CallerDep,
    px: ImagePxQuery = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Draw one image, as it is stored or at another size.

    A smaller one is averaged. One that is at least twice as large shows its pixels as squares.
    """

    def draw(pack: Pack, stored: StoredPack) -> bytes:
        position = find_position(pack, split, index)
        if position is None:
            raise _no_image(pack, stored, split, f"none has the index {index}", "index")
        return thumbnails.draw_image(pack, position, px)

    look = _Look(services, caller, dataset_id, if_none_match, "image/png")
    return await look.answer(("image", split, index, px), draw)


@router.get(
    "/sprite",
    summary="Draw 64 images of a dataset in one picture",
    response_description="A PNG. Number i of the page begins at (i % 8 * px, i // 8 * px).",
    response_class=Response,
    responses=errors.responses(ImageNotFound, *_REFUSALS, success=_PNG),
)
async def get_sprite(
    dataset_id: DatasetPath,
    services: ServicesDep,
    caller: CallerDep,
    split: SplitQuery = None,
    label: LabelQuery = None,
    page: PageQuery = 0,
    px: TilePxQuery = thumbnails.TILE_PX,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Draw 64 images, eight in a row without gaps, in the order of `GET /datasets/{dataset_id}/images`.

    The last page has as many rows as it needs.
    """

    def draw(pack: Pack, stored: StoredPack) -> bytes:
        positions = select(pack, split=split, label=_require_label(pack, label))
        shown = positions[page * thumbnails.SPRITE_IMAGES : (page + 1) * thumbnails.SPRITE_IMAGES]
        if not len(shown):
            raise _no_image(pack, stored, split, f"{len(positions)} are selected, so page {page} has none", "page")
        return thumbnails.draw_sprite(pack, shown, px)

    look = _Look(services, caller, dataset_id, if_none_match, "image/png")
    return await look.answer(("sprite", split, label, page, px), draw)


@router.get(
    "/preview",
    summary="Draw some images of each class",
    response_description="A PNG.",
    response_class=Response,
    responses=errors.responses(ImageNotFound, *_REFUSALS, success=_PNG),
)
async def get_preview(
    dataset_id: DatasetPath,
    services: ServicesDep,
    caller: CallerDep,
    page: PageQuery = 0,
    px: TilePxQuery = preview.PREVIEW_PX,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Draw ten training images of each of twenty classes, a class in each row with its name. Other pages have others.

    The name of a class that the font can't write is shown as its number.
    """

    def draw(pack: Pack, stored: StoredPack) -> bytes:
        first = page * preview.PREVIEW_CLASSES
        if first >= len(pack.class_names):
            raise ImageNotFound(
                f"dataset {stored.dataset_id} has {len(pack.class_names)} classes, {preview.PREVIEW_CLASSES} on each "
                f"page: page {page} has none",
                param="page",
            )
        return preview.draw_preview(pack, first, px)

    look = _Look(services, caller, dataset_id, if_none_match, "image/png")
    return await look.answer(("preview", page, px), draw)


@router.get(
    "/mean.png",
    summary="Draw a dataset's mean image",
    response_description="A PNG.",
    response_class=Response,
    responses=errors.responses(ImageNotFound, *_REFUSALS, success=_PNG),
)
async def get_mean(
    dataset_id: DatasetPath,
    services: ServicesDep,
    caller: CallerDep,
    label: LabelQuery = None,
    px: ImagePxQuery = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Draw the mean of the training images, of all or of one class.

    Where they have more than a gigabyte of pixels, it is that of as many images as have that, evenly spaced.
    """

    def draw(pack: Pack, stored: StoredPack) -> bytes:
        mean = compute_mean(pack, label=_require_label(pack, label))
        if mean is None:
            raise _no_image(pack, stored, "train", "none is selected", "label")
        return mean.draw(px)

    look = _Look(services, caller, dataset_id, if_none_match, "image/png")
    return await look.answer(("mean", label, px), draw)


@router.get(
    "/histogram",
    summary="Count a dataset's images by class",
    response_model=HistogramRead,
    responses=errors.responses(*_REFUSALS, success=NOT_MODIFIED),
)
async def get_histogram(
    dataset_id: DatasetPath, services: ServicesDep, caller: CallerDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Return the number of images of each class in each split."""

    def draw(pack: Pack, stored: StoredPack) -> bytes:
        counts = count_by_class(pack).tolist()
        return HistogramRead.of(stored.dataset_id, pack.class_names, counts).model_dump_json().encode()

    return await _Look(services, caller, dataset_id, if_none_match, "application/json").answer(("histogram",), draw)


class _Look:
    """One request to look at a dataset."""

    def __init__(
        self, services: Services, caller: str, reference: str, if_none_match: list[str] | None, media_type: str
    ) -> None:
        self._services, self._caller, self._reference = services, caller, reference
        self._if_none_match, self._media_type = if_none_match, media_type

    async def answer(self, what: tuple[object, ...], draw: Callable[[Pack, StoredPack], bytes]) -> Response:
        """Answer with what is drawn from the pack, with 304 if the client has it.

        Args:
            what: names what is drawn.
            draw: draws it, in a thread of the pictures.
        """
        stored = await anyio.to_thread.run_sync(self._find)
        content = repr((__version__, stored.dataset_id, stored.digest, *what))
        build = lasting_headers if self._reference == stored.dataset_id else tag_headers  # a name may move on
        headers = build(content.encode())
        if is_known(headers, self._if_none_match):
            return Response(status_code=304, headers=headers)
        body = await self._services.pack_views.get(content, partial(self._draw, stored, draw))
        return Response(body, headers=headers, media_type=self._media_type)

    def _find(self) -> StoredPack:
        with self._services.database.reading() as session:
            found = datasets.get_dataset(session, self._caller, self._reference, param="dataset_id")
            return StoredPack.of(found)

    def _draw(self, stored: StoredPack, draw: Callable[[Pack, StoredPack], bytes]) -> bytes:
        try:
            with stored.open(self._services.storage) as pack:
                return draw(pack, stored)
        except OSError as exc:
            raise StorageUnavailable(f"dataset {stored.dataset_id} can't be read now: try again in a moment") from exc


def _require_label(pack: Pack, class_name: str | None) -> int | None:
    if class_name is None:
        return None
    label = find_label(pack, class_name)
    if label is None:
        some = ", ".join(map(repr, pack.class_names[:5])) + (", …" if len(pack.class_names) > 5 else "")
        raise InvalidRequest(f"there is no class {class_name[:80]!r}: the classes are {some}", param="label")
    return label


def _require_last(pack: Pack, image_id: str) -> int:
    split, _, index = image_id.partition("-")
    position = find_position(pack, split, int(index))
    if position is None:
        raise InvalidRequest(f"there is no image {image_id}: use `last_id` of the previous page", param="after")
    return position


def _no_image(pack: Pack, stored: StoredPack, split: Split | None, reason: str, param: str) -> ImageNotFound:
    num_images = len(pack.labels) if split is None else len(pack.list_indices(split))
    of_split = "" if split is None else f" in its split {split}"
    return ImageNotFound(f"dataset {stored.dataset_id} has {num_images} images{of_split}: {reason}", param=param)
