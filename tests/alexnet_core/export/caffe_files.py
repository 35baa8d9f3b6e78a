"""Caffe's files, written by hand: protocol buffers' wire format, from caffe.proto's field numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """A whole number."""
    return varint(field << 3) + varint(value)


def counted(field: int, content: bytes) -> bytes:
    """Bytes after their number: texts, messages, packed values."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def blob(values: Values, *, old: bool) -> bytes:
    """A BlobProto: four sides (`num`, `channels`, `height`, `width`), or a BlobShape."""
    if old:
        sides = (1,) * (4 - values.ndim) + values.shape
        shape = b"".join(number(field, side) for field, side in enumerate(sides, start=1))
    else:
        shape = counted(7, counted(1, b"".join(varint(side) for side in values.shape)))
    return shape + counted(5, values.astype("<f4").tobytes())


def model(layers: Mapping[str, Sequence[Values]], *, old: bool) -> bytes:
    """A NetParameter with layers of the older or the newer kind, and some of what readers must skip."""
    out = counted(1, b"AlexNet") + counted(3, b"data") + b"".join(number(4, side) for side in (10, 3, 227, 227))
    for name, blobs in layers.items():
        field, name_field, blobs_field, kind = (2, 4, 6, number(5, 4)) if old else (100, 1, 7, counted(2, b"Layer"))
        parts = kind + counted(name_field, name.encode())
        parts += b"".join(counted(blobs_field, blob(values, old=old)) for values in blobs)
        parts += varint(8 << 3 | 5) + b"\0\0\x80\x3f"  # a float, as loss weights are
        out += counted(field, parts)
    return out
