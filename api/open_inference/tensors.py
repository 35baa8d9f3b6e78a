"""Tensors as the protocol's messages hold them: as JSON values, or as bytes behind the JSON (binary data).

N images, H height, W width, C channels
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.errors import InvalidRequest

_LENGTH = struct.Struct("<I")
_NUMBERS: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("uint8"), "FP32": np.dtype("<f4"), "INT32": np.dtype("<i4")}

Array = NDArray[Any]


def read_texts(name: str, shape: Sequence[int], raw: bytes | None, data: Any) -> list[bytes]:
    """Return the elements of a BYTES tensor.

    Args:
        name: of the tensor, for refusals.
        shape: that it says it has.
        raw: its bytes, each element with its length in front; None: it stands in the JSON.
        data: the JSON's, in base64, as JSON can't hold an image.

    Raises:
        InvalidRequest: it is not such a tensor.
    """
    elements = _split(name, raw) if raw is not None else [_decode(name, text) for text in _flatten(data)]
    _check_count(name, shape, len(elements))
    return elements


def read_numbers(name: str, datatype: str, shape: Sequence[int], raw: bytes | None, data: Any) -> Array:
    """Return a tensor of numbers.

    Raises:
        InvalidRequest: it is not such a tensor, or of a datatype that is not supported.
    """
    dtype = _NUMBERS.get(datatype)
    if dtype is None:
        raise InvalidRequest(f"input {name!r} is of {datatype}: send BYTES, UINT8 or FP32", param="inputs")
    if raw is not None:
        _check_count(name, shape, len(raw) / dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(shape)
    try:
        wide = np.asarray(data, dtype=np.float64).reshape(-1)
    except (ValueError, TypeError) as exc:
        raise InvalidRequest(
            f"input {name!r} holds something else than numbers, or lists of different lengths", param="inputs"
        ) from exc
    _check_count(name, shape, wide.size)
    with np.errstate(over="ignore", invalid="ignore"):
        array = wide.astype(dtype)
    if datatype == "UINT8" and not np.array_equal(array, wide):
        raise InvalidRequest(f"input {name!r} is of UINT8 and holds numbers that are none of 0 to 255", param="inputs")
    return array.reshape(shape)


def write_texts(texts: Sequence[bytes]) -> bytes:
    """Return the bytes of a BYTES tensor."""
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def _split(name: str, raw: bytes) -> list[bytes]:
    elements, start = [], 0
    while start < len(raw):
        if start + _LENGTH.size > len(raw):
            raise _cut_off(name)
        begin = start + _LENGTH.size
        start = begin + _LENGTH.unpack_from(raw, start)[0]
        if start > len(raw):
            raise _cut_off(name)
        elements.append(raw[begin:start])
    return elements


def _cut_off(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"the bytes of input {name!r} end within an element: each begins with its length, 4 bytes, little-endian",
        param="inputs",
    )


def _decode(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise InvalidRequest(
            f"input {name!r} is of BYTES in JSON and not in base64: encode it, or send it as binary data",
            param="inputs",
        ) from exc


def _flatten(data: Any) -> list[Any]:
    return [it for part in data for it in _flatten(part)] if isinstance(data, list) else [data]


def _check_count(name: str, shape: Sequence[int], found: float) -> None:
    if math.prod(shape) != found:
        raise InvalidRequest(
            f"input {name!r} says that its shape is {list(shape)}, and holds {found:g} elements", param="inputs"
        )
