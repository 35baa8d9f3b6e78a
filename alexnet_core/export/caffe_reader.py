"""Reads the layers of a `.caffemodel` and the image of a `.binaryproto` from protocol buffers' wire format.

Only the few fields that weights need are read (caffe.proto: NetParameter, LayerParameter, V1LayerParameter, BlobProto);
all others are skipped by their length. Both kinds of layers are supported: the published models have the older one.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet_core.errors import CheckpointCorrupt

Array = NDArray[np.float32]
Field = tuple[int, int, "int | memoryview"]  # number, wire type, value

MAX_BYTES = 1 << 32
_VARINT, _EIGHT_BYTES, _COUNTED, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_NET_LAYER, _NET_V1_LAYER = 100, 2
_NAME_AND_BLOBS = {_NET_LAYER: (1, 7), _NET_V1_LAYER: (4, 6)}  # fields of each kind of layer
_LEGACY_SIDES = (1, 2, 3, 4)  # of a blob: num, channels, height, width
_DATA, _SHAPE, _DOUBLE_DATA, _DIMENSIONS = 5, 7, 8, 1


def read_layers(source: Path) -> dict[str, list[Array]]:
    """Read the blobs of every layer of a `.caffemodel` that has any, by the layer's name.

    Raises:
        CheckpointCorrupt: it is no such file, or is damaged.
        OSError: there is no such file.
    """
    data, layers = _open(source), {}
    try:
        for number, kind, value in _fields(data):
            if number in _NAME_AND_BLOBS and kind == _COUNTED and isinstance(value, memoryview):
                name, blobs = _read_layer(value, *_NAME_AND_BLOBS[number])
                if blobs:
                    layers[name] = blobs
    except ValueError as exc:
        raise CheckpointCorrupt(f"{source} can't be read as a Caffe model: {exc}") from exc
    if not layers:
        raise CheckpointCorrupt(f"{source} contains no layer with weights: is it a .caffemodel?")
    return layers


def read_mean(source: Path) -> Array:
    """Read the mean image (C, H, W) of a `.binaryproto`, with the channels in Caffe's order: blue, green, red.

    Raises:
        CheckpointCorrupt: it is no such file, or is damaged.
        OSError: there is no such file.
    """
    try:
        blob = _read_blob(_open(source))
    except ValueError as exc:
        raise CheckpointCorrupt(f"{source} can't be read as a Caffe mean image: {exc}") from exc
    shape = blob.shape[-3:]
    if blob.ndim < 3 or prod(shape) != blob.size or shape[1] != shape[2] or shape[0] not in (1, 3):
        raise CheckpointCorrupt(f"{source} holds values of the shape {list(blob.shape)}, not one square image")
    return blob.reshape(shape)


def _open(source: Path) -> memoryview:
    size_bytes = source.stat().st_size
    if size_bytes > MAX_BYTES:
        raise CheckpointCorrupt(f"{source} has {size_bytes / 1e9:.1f} GB, more than any model of Caffe")
    return memoryview(source.read_bytes())


def _read_layer(data: memoryview, name_field: int, blobs_field: int) -> tuple[str, list[Array]]:
    name, blobs = "", []
    for number, kind, value in _fields(data):
        if not isinstance(value, memoryview) or kind != _COUNTED:
            continue
        if number == name_field:
            name = bytes(value).decode()
        elif number == blobs_field:
            blobs.append(_read_blob(value))
    return name, blobs


def _read_blob(data: memoryview) -> Array:
    legacy: dict[int, int] = {}
    shape: list[int] | None = None
    values: list[Array] = []
    for number, kind, value in _fields(data):
        if number in _LEGACY_SIDES and isinstance(value, int):
            legacy[number] = value
        elif number == _SHAPE and isinstance(value, memoryview):
            shape = list(_dimensions(value))
        elif number in {_DATA, _DOUBLE_DATA}:
            values.append(_read_values(number, kind, value))
    sides = [legacy.get(side, 1) for side in _LEGACY_SIDES] if shape is None else shape
    array = np.concatenate(values) if values else np.empty(0, np.float32)
    if prod(sides) != array.size or any(side < 0 for side in sides):
        raise ValueError(f"a blob of the shape {sides} has {array.size} values")
    return array.reshape(sides)


def _read_values(number: int, kind: int, value: int | memoryview) -> Array:
    dtype = np.dtype("<f4" if number == _DATA else "<f8")
    if kind != _COUNTED or not isinstance(value, memoryview):
        raise ValueError("a blob's values are not packed")
    if len(value) % dtype.itemsize:
        raise ValueError("a blob's values end in the middle of one")
    return np.frombuffer(value, dtype).astype(np.float32)


def _dimensions(data: memoryview) -> Iterator[int]:
    for number, _, value in _fields(data):
        if number != _DIMENSIONS:
            continue
        if isinstance(value, int):
            yield value
            continue
        place = 0
        while place < len(value):
            side, place = _varint(value, place)
            yield side


def _fields(data: memoryview) -> Iterator[Field]:
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield number, kind, value
            continue
        if kind == _COUNTED:
            length, place = _varint(data, place)
        elif kind in {_FOUR_BYTES, _EIGHT_BYTES}:
            length = 4 if kind == _FOUR_BYTES else 8
        else:
            raise ValueError(f"byte {place} has the unknown wire type {kind}")
        if number == 0 or length > len(data) - place:
            raise ValueError(f"a field at byte {place} reaches beyond the end")
        yield number, kind, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"byte {place} is in a number of more than 64 bits")
