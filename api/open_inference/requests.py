"""A request for inference: its JSON, and the images in its tensors.

N images, H height, W width, C channels
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from api.open_inference.tensors import read_numbers, read_texts
from trainyard.errors import InvalidRequest, JsonInvalid, TooLarge

Dimension = Annotated[int, Field(ge=0, le=2**40)]
Parameters = dict[str, Any]

FILES, PIXELS, VALUES = "BYTES", "UINT8", "FP32"
_BINARY_SIZE = "binary_data_size"


class InputTensor(BaseModel):
    """An input as the JSON describes it."""

    name: str = Field(max_length=200)
    shape: list[Dimension] = Field(min_length=1, max_length=8)
    datatype: str = Field(max_length=20)
    parameters: Parameters = Field(default_factory=dict)
    data: Any = None


class WantedOutput(BaseModel):
    """An output that is asked for."""

    name: str = Field(max_length=200)
    parameters: Parameters = Field(default_factory=dict)


class InferBody(BaseModel):
    """The JSON of a request. Fields that are not known are left alone, as the protocol lets servers add some."""

    id: str | None = Field(None, max_length=200)
    parameters: Parameters = Field(default_factory=dict)
    inputs: list[InputTensor] = Field(min_length=1, max_length=16)
    outputs: list[WantedOutput] | None = Field(None, max_length=16)


@dataclass(frozen=True)
class Images:
    """The images of a request, one after the other."""

    datatype: str  #: `BYTES`: files; `UINT8`: pixels_HWC; `FP32`: input_CHW, as the network takes it
    parts: list[bytes]
    shape: tuple[int, int, int] | None  #: of each array; None for files


def read_request(body: bytes, json_length: str | None) -> tuple[InferBody, Images]:
    """Read a request.

    Args:
        body: all of it.
        json_length: the header that says how long the JSON is, before the binary data; None: there is none.

    Raises:
        InvalidRequest: it is no request of the protocol, or its tensor holds no images.
    """
    length = len(body)
    if json_length is not None:
        if not json_length.isdecimal() or int(json_length[:20]) > len(body):
            raise InvalidRequest(
                f"Inference-Header-Content-Length is {json_length[:40]!r}, and the body has {len(body)} bytes",
                param="Inference-Header-Content-Length",
            )
        length = int(json_length)
    try:
        parsed = InferBody.model_validate_json(body[:length])
    except ValidationError as exc:
        problem = exc.errors(include_url=False)[0]
        if problem["type"] == "json_invalid":
            raise JsonInvalid(f"the body is not JSON: {problem['ctx']['error']}") from exc
        place = ".".join(map(str, problem["loc"]))
        raise InvalidRequest(f"{place}: {problem['msg']}", param=place[:80]) from exc
    images = _read_images(parsed, body[length:])
    if not images.parts:
        raise InvalidRequest("there are no images in the input", param="inputs")
    return parsed, images


def _read_images(body: InferBody, binary: bytes) -> Images:
    """Return the images of the one input that there is."""
    if len(body.inputs) != 1:
        raise InvalidRequest(f"there are {len(body.inputs)} inputs: send the images in one", param="inputs")
    tensor = body.inputs[0]
    raw = _take_binary(tensor, binary)
    if tensor.datatype == FILES:
        if len(tensor.shape) > 2 or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
            raise InvalidRequest(
                f"input {tensor.name!r} of BYTES has the shape {tensor.shape}: send [N] or [N, 1]", param="inputs"
            )
        return Images(FILES, read_texts(tensor.name, tensor.shape, raw, tensor.data), None)
    array = read_numbers(tensor.name, tensor.datatype, tensor.shape, raw, tensor.data)
    if tensor.datatype not in (PIXELS, VALUES) or array.ndim != 4:
        raise InvalidRequest(
            f"input {tensor.name!r} of {tensor.datatype} has the shape {tensor.shape}: send BYTES [N], UINT8 "
            "[N, H, W, C] or FP32 [N, C, H, W]",
            param="inputs",
        )
    if tensor.datatype == PIXELS:
        array = _channels_last(tensor, array)
    _, first, second, third = array.shape
    return Images(tensor.datatype, [it.tobytes() for it in array], (first, second, third))


def _take_binary(tensor: InputTensor, binary: bytes) -> bytes | None:
    size = tensor.parameters.get(_BINARY_SIZE)
    if size is None:
        if tensor.data is None:
            raise InvalidRequest(f"input {tensor.name!r} has neither `data` nor `{_BINARY_SIZE}`", param="inputs")
        if binary:
            raise InvalidRequest("there are bytes behind the JSON that belong to no input", param="inputs")
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size != len(binary):
        raise InvalidRequest(
            f"{_BINARY_SIZE} of input {tensor.name!r} is {str(size)[:40]}, and {len(binary)} bytes follow the JSON",
            param="inputs",
        )
    return binary


def _channels_last(tensor: InputTensor, array_NXXX: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, first, _, last = array_NXXX.shape
    if last in (1, 3):
        array_NHWC = array_NXXX
    elif first in (1, 3):
        array_NHWC = array_NXXX.transpose(0, 2, 3, 1)
    else:
        raise InvalidRequest(
            f"input {tensor.name!r} of UINT8 has the shape {tensor.shape}: send 1 or 3 channels", param="inputs"
        )
    if not (array_NHWC.shape[1] and array_NHWC.shape[2]):
        raise InvalidRequest(f"input {tensor.name!r} has images without pixels", param="inputs")
    return array_NHWC


def check_pixels(images: Images, max_pixels: int) -> None:
    """Refuse images that are larger than a file's may be.

    Raises:
        TooLarge: one is.
    """
    if images.datatype == PIXELS and images.shape is not None and images.shape[0] * images.shape[1] > max_pixels:
        raise TooLarge(f"the images have {images.shape[0]} x {images.shape[1]} pixels: at most {max_pixels} are taken")
