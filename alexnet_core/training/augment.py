"""Random changes to a batch of training images, on the training device.

The random numbers of an image depend on the job's seed, the epoch and the image's place in the pack, but not on the
batch that it is in or on what ran before.

B batch, C channels, H height, W width, X a row's values: W times C
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.training.streams import Stream, draw_in_epoch

_FLIP, _SHIFT_X, _SHIFT_Y, _ROTATE, _SCALE, _CROP_Y, _CROP_X, _COLOUR = range(8)  # a colour has three
_ERASE, _ERASE_AREA, _ERASE_SHAPE, _ERASE_Y, _ERASE_X = range(10, 15)
_PART_AREA, _PART_SHAPE = 15, 16
_PART_SHAPES = (3 / 4, 4 / 3)  # width over height, as in torchvision's RandomResizedCrop
_ERASED_AREA, _ERASED_SHAPE = (0.02, 0.4), (0.3, 1 / 0.3)  # share of the image; height over width
_ROUNDING_PX = 1e-3  # a place that is less than this outside is one that rounding moved there
_SMALLEST = 1e-7  # keeps a normal draw finite


def draw_table(seed: int, epoch: int, num_images: int, config: TrainConfig) -> npt.NDArray[np.float32]:
    """Draw the random numbers for every image of a pack in one epoch, uniform in [0, 1).

    Shape: num_images x 5, x 10 with crops or colours, x 15 with erasing, x 20 with resized crops.
    """
    streams = [Stream.MOVES]
    resizes = config.random_resized_crop is not None
    if config.random_crop or config.colour_std or config.erase or resizes:
        streams.append(Stream.CROPS_AND_COLOURS)
    if config.erase or resizes:
        streams.append(Stream.ERASING)
    if resizes:
        streams.append(Stream.RESIZED_CROPS)
    shape = (num_images, 5)
    tables = [draw_in_epoch(seed, stream, epoch).random(shape, dtype=np.float32) for stream in streams]
    return np.concatenate(tables, axis=1)


class Augmentation:
    """Turns a batch's stored images into the network's input, with the random changes that a config asks for."""

    def __init__(self, config: TrainConfig, preprocessing: Preprocessing, pack: Pack) -> None:
        self._config, self._preprocessing = config, preprocessing
        self._colours_33 = _principal_colours(pack, config.colour_form) if config.colour_std else None

    def __call__(self, images_BHWC: Tensor, draws_BD: Tensor, epoch: int) -> Tensor:
        """Return the standardised, changed input_BCHW, float32.

        Args:
            images_BHWC: uint8, as stored.
            draws_BD: these images' rows of the epoch's table.
            epoch: counted from 0.
        """
        x_BCHW = self._move_and_colour(images_BHWC, draws_BD, epoch)
        return erase(x_BCHW, draws_BD, self._config.erase) if self._config.erase else x_BCHW

    def _move_and_colour(self, images_BHWC: Tensor, draws_BD: Tensor, epoch: int) -> Tensor:
        config, preprocessing = self._config, self._preprocessing
        if config.random_resized_crop is not None:
            x_BCHW = self._resize_parts(images_BHWC, draws_BD, config.random_resized_crop)
        else:
            x_BCHW = preprocessing.subtract_image(preprocessing.resize(images_BHWC))
        shifts_BC = self._find_colours(draws_BD, epoch)
        if _suits_one_by_one(x_BCHW.device, config):
            return self._change_one_by_one(x_BCHW, draws_BD, shifts_BC)
        if config.random_crop:
            x_BCHW = _cut(x_BCHW, *_find_places(x_BCHW, draws_BD, config), config.image_px)
        else:
            x_BCHW = preprocessing.cut_centre(x_BCHW)
        x_BCHW = preprocessing.finish(x_BCHW)
        if shifts_BC is not None:
            x_BCHW = x_BCHW + shifts_BC[:, :, None, None]
        x_BCHW = preprocessing.standardise(x_BCHW)
        if shifts_BC is not None and config.colour_form == "2012_code":
            x_BCHW = x_BCHW / (1 + config.colour_std)
        return transform(x_BCHW, draws_BD, config)

    def _resize_parts(self, images_BHWC: Tensor, draws_BD: Tensor, least: float) -> Tensor:
        """Resize a part of each stored image to the network's input, one by one, as each has its own size.

        As in torchvision's RandomResizedCrop, except that a side that would be longer than the image's is shortened to
        it, where torchvision draws again.
        """
        x_BCHW = images_BHWC.permute(0, 3, 1, 2)
        height, width = x_BCHW.shape[2:]
        low, high = (math.log(end) for end in _PART_SHAPES)
        shape_B = torch.exp(low + draws_BD[:, _PART_SHAPE] * (high - low))
        area_B = (least + draws_BD[:, _PART_AREA] * (1 - least)) * height * width
        heights_B = torch.sqrt(area_B / shape_B).round().clamp(1, height)
        widths_B = torch.sqrt(area_B * shape_B).round().clamp(1, width)
        tops_B = (draws_BD[:, _CROP_Y] * (height - heights_B + 1)).floor()
        lefts_B = (draws_BD[:, _CROP_X] * (width - widths_B + 1)).floor()
        parts = torch.stack([tops_B, lefts_B, heights_B, widths_B], dim=1).long().tolist()
        sides = (self._config.image_px, self._config.image_px)
        return torch.cat(
            [
                F.interpolate(
                    self._preprocessing.finish(x_CHW[None, :, top : top + high_px, left : left + wide_px]),
                    size=sides, mode="bilinear", antialias=True, align_corners=False,
                )
                for x_CHW, (top, left, high_px, wide_px) in zip(x_BCHW, parts, strict=True)
            ]
        )  # fmt: skip

    def _find_colours(self, draws_BD: Tensor, epoch: int) -> Tensor | None:
        """Return what is added to each channel of an image. None: nothing in this epoch.

        Krizhevsky 2012, section 4.1: one amount of each principal colour for a whole image. The code of 2012 adds it to
        an image after subtracting the mean, then divides by 1 + `colour_std` (`x += noise*coeff; x /= 1+coeff`).
        """
        config = self._config
        until = config.colour_until_epoch
        if self._colours_33 is None or (until is not None and epoch >= until):
            return None
        amounts_B3 = torch.special.ndtri(draws_BD[:, _COLOUR : _COLOUR + 3].clamp(_SMALLEST, 1 - _SMALLEST))
        shifts_BC: Tensor = (amounts_B3 * config.colour_std) @ self._colours_33.to(draws_BD.device)
        return shifts_BC

    def _change_one_by_one(self, x_BCHW: Tensor, draws_BD: Tensor, shifts_BC: Tensor | None) -> Tensor:
        """Compute the same values image by image, which a CPU's cache can hold, unlike a batch; channels-last."""
        config, preprocessing = self._config, self._preprocessing
        if x_BCHW.shape[1] != preprocessing.channels:
            x_BCHW = preprocessing.finish(x_BCHW)
        x_BHWC, side_px = x_BCHW.permute(0, 2, 3, 1), config.image_px
        tops, lefts = (places_B.tolist() for places_B in _find_places(x_BCHW, draws_BD, config))
        mirrored = (draws_BD[:, _FLIP] < 0.5).tolist()
        changed_BHWC = torch.empty(len(x_BHWC), side_px, side_px, preprocessing.channels)
        shifts_BX = None if shifts_BC is None else shifts_BC.repeat(1, side_px)
        mean_X, std_X = (torch.tensor(value).repeat(side_px) for value in (preprocessing.mean, preprocessing.std))
        for number, (x_HWC, changed_HWC) in enumerate(zip(x_BHWC, changed_BHWC, strict=True)):
            top, left = tops[number], lefts[number]
            cut_HWC = x_HWC[top : top + side_px, left : left + side_px]
            changed_HWC.copy_(cut_HWC.flip(1) if config.flip and mirrored[number] else cut_HWC)
            changed_HX = changed_HWC.view(side_px, -1)
            if shifts_BX is not None:
                changed_HX.add_(shifts_BX[number])
            changed_HX.sub_(mean_X).div_(std_X)
            if shifts_BX is not None and config.colour_form == "2012_code":
                changed_HX.div_(1 + config.colour_std)
        return changed_BHWC.permute(0, 3, 1, 2)


def transform(x_BCHW: Tensor, draws_BD: Tensor, config: TrainConfig) -> Tensor:
    """Flip, shift, rotate and zoom standardised images; uncovered places become 0."""
    if not _moves(config):
        if not config.flip:
            return x_BCHW
        return torch.where((draws_BD[:, _FLIP] < 0.5)[:, None, None, None], x_BCHW.flip(3), x_BCHW)
    signed_BD = draws_BD * 2 - 1
    angle_B = signed_BD[:, _ROTATE] * (config.rotate_deg * math.pi / 180)
    zoom_B = 1 + signed_BD[:, _SCALE] * config.scale
    mirror_B = torch.where(draws_BD[:, _FLIP] < 0.5, -1.0, 1.0) if config.flip else torch.ones_like(angle_B)
    shift_x_B = _find_shifts(draws_BD[:, _SHIFT_X], config, x_BCHW.shape[3])
    shift_y_B = _find_shifts(draws_BD[:, _SHIFT_Y], config, x_BCHW.shape[2])
    cos_B, sin_B = torch.cos(angle_B) * zoom_B, torch.sin(angle_B) * zoom_B
    row_x = torch.stack([cos_B * mirror_B, -sin_B, shift_x_B], dim=1)
    row_y = torch.stack([sin_B * mirror_B, cos_B, shift_y_B], dim=1)
    grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), list(x_BCHW.shape), align_corners=False)
    moved_BCHW = F.grid_sample(x_BCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved_BCHW if config.border == "blend" else moved_BCHW * _is_inside(grid, *x_BCHW.shape[2:])


def _is_inside(grid_BHW2: Tensor, height: int, width: int) -> Tensor:
    """Return 1 where a place lies between the centres of its image's first and last pixels, else 0; (B, 1, H, W).

    SciPy's `ndimage` with `mode="constant"`, which Keras' generator calls, uses the constant for any place beyond.
    """
    sides = torch.tensor([width, height], dtype=grid_BHW2.dtype, device=grid_BHW2.device)
    furthest = 1 - 1 / sides + _ROUNDING_PX * 2 / sides
    return (grid_BHW2.abs() <= furthest).all(dim=3)[:, None].to(grid_BHW2.dtype)


def erase(x_BCHW: Tensor, draws_BD: Tensor, probability: float) -> Tensor:
    """Set a rectangle in some standardised images to 0, which is the mean, in place.

    Random erasing (Zhong 2017, arXiv 1708.04896): its area is .02 to .4 of the image, its height divided by its width
    .3 to 1 / .3; a side that would be longer than the image's is shortened to it.
    """
    height, width = x_BCHW.shape[2:]
    least, most = _ERASED_AREA
    area_B = (least + draws_BD[:, _ERASE_AREA] * (most - least)) * height * width
    low, high = (math.log(end) for end in _ERASED_SHAPE)
    shape_B = torch.exp(low + draws_BD[:, _ERASE_SHAPE] * (high - low))
    rows_BH = _find_span(torch.sqrt(area_B * shape_B), draws_BD[:, _ERASE_Y], height)
    columns_BW = _find_span(torch.sqrt(area_B / shape_B), draws_BD[:, _ERASE_X], width)
    chosen_B = draws_BD[:, _ERASE] < probability
    erased_BHW = rows_BH[:, :, None] & columns_BW[:, None, :] & chosen_B[:, None, None]
    return x_BCHW.masked_fill_(erased_BHW[:, None], 0.0)


def _find_span(lengths_B: Tensor, draws_B: Tensor, side_px: int) -> Tensor:
    """Return which pixels along a side lie in a span of that length, at a position where all of it fits."""
    lengths_B = lengths_B.round().clamp(1, side_px)
    first_B = (draws_B * (side_px - lengths_B + 1)).floor()
    along = torch.arange(side_px, device=draws_B.device)
    return (along >= first_B[:, None]) & (along < (first_B + lengths_B)[:, None])


def _find_shifts(draws_B: Tensor, config: TrainConfig, side_px: int) -> Tensor:
    """Return how far each image is shifted along an axis, in halves of its side."""
    if not config.shift_whole:
        return (draws_B * 2 - 1) * (2 * config.shift_px / side_px)
    most = int(config.shift_px)
    return ((draws_B * (2 * most + 1)).floor().clamp(max=2 * most) - most) * (2 / side_px)


def _suits_one_by_one(device: torch.device, config: TrainConfig) -> bool:
    """Whether to change images one by one.

    A GPU takes a whole batch at once, and so do changes that move pixels.
    """
    return device.type == "cpu" and not _moves(config)


def _moves(config: TrainConfig) -> bool:
    """Whether a pixel may end up between others."""
    return bool(config.shift_px or config.rotate_deg or config.scale)


def _find_places(x_BCHW: Tensor, draws_BD: Tensor, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return the first row and column of each image's own square, or of the one in the middle."""
    height, width = (side - config.image_px for side in x_BCHW.shape[2:])
    if not config.random_crop:
        middle_B = torch.zeros_like(draws_BD[:, 0], dtype=torch.int64)
        return middle_B + height // 2, middle_B + width // 2
    return (draws_BD[:, _CROP_Y] * (height + 1)).long(), (draws_BD[:, _CROP_X] * (width + 1)).long()


def _cut(x_BCHW: Tensor, tops_B: Tensor, lefts_B: Tensor, side_px: int) -> Tensor:
    """Cut out the squares of that side at these places."""
    along = torch.arange(side_px, device=x_BCHW.device)
    image = torch.arange(len(x_BCHW), device=x_BCHW.device)[:, None, None]
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)[
        image, (tops_B[:, None] + along)[:, :, None], (lefts_B[:, None] + along)[:, None, :]
    ]
    return x_BHWC.permute(0, 3, 1, 2)


def _principal_colours(pack: Pack, form: str) -> Tensor:
    """Return the principal components of the training pixels' colours times their spread, as rows, in 0..255 units.

    The paper prints variance times component. That has a sensible size only if a pixel's values are fractions, so the
    covariance is computed from values / 255 and the result scaled back. The code of 2012 multiplies by the deviation
    (`randn * color_stdevs * vecs`), which has the same unit as the pixels.
    """
    covariance = np.asarray(pack.covariance)
    if covariance.shape == (1, 1):
        covariance = np.full((3, 3), covariance[0, 0])
    variances, components = np.linalg.eigh(covariance / 255**2)
    signs = np.sign(components[np.abs(components).argmax(axis=0), range(3)])
    spreads = np.sqrt(variances.clip(min=0)) if form == "2012_code" else variances
    return torch.from_numpy((components * signs * spreads).T * 255).to(torch.float32)
