"""Test images of a pack, from a folder and from an object store, of which only they are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from alexnet_core.data.published.builtin import prepare
from api.reading import sampled_images
from api.reading.sampled_images import choose, sampling
from tests.object_store import FaultyFilesystem
from trainyard.storage.local import LocalStorage
from trainyard.storage.objects import ObjectStorage
from trainyard.storage.remote import RemoteFiles

KEY = "packs/ds_digits"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    prepare("digits", source_dir=None, target_dir=tmp_path / "data" / KEY)
    return tmp_path / "data" / KEY


@pytest.fixture
def filesystem() -> FaultyFilesystem:
    return FaultyFilesystem(fsspec.filesystem("memory", skip_instance_cache=True))


@pytest.fixture
def far(pack: Path, filesystem: FaultyFilesystem, tmp_path: Path) -> Iterator[ObjectStorage]:
    """An object store with the pack, on a machine that has no copy of it."""
    files = RemoteFiles(filesystem, f"/{tmp_path.name}", sleep=lambda _: None)
    for name in ("writer", "reader"):
        storage = ObjectStorage(files, tmp_path / name, cache_bytes=10**9)
        if name == "writer":
            storage.write_mark("store_1")
            storage.publish(pack, KEY)
            storage.close()
    yield storage
    storage.close()


def read(storage: LocalStorage | ObjectStorage) -> list[np.ndarray]:
    with sampling(storage, KEY) as steps:
        return [image for step in steps for image in step or ()]


@pytest.mark.parametrize("codes", [[0, 2, 1, 2, 2], [0, 1, 1, 0, 1]])
def test_validation_images_stand_in_for_missing_test_images(codes: list[int]) -> None:
    split = np.array(codes, np.uint8)
    assert list(choose(split, 100)) == list(np.flatnonzero(split == max(codes)))


def test_they_are_spread_evenly_over_all() -> None:
    split = np.full(1000, 2, np.uint8)
    assert list(choose(split, 4)) == [0, 333, 666, 999]
    assert list(choose(np.zeros(5, np.uint8), 4)) == []


def test_those_of_an_object_store_are_those_of_the_pack(
    pack: Path, far: ObjectStorage, filesystem: FaultyFilesystem
) -> None:
    near = read(LocalStorage(pack.parents[1]))
    assert len(near) == 360
    filesystem.calls.clear()
    found = read(far)
    assert all(np.array_equal(one, other) for one, other in zip(near, found, strict=True))
    assert len(filesystem.calls) == 1 + 3 + 360, "the index, two headers, the splits, and each image"


def test_no_more_is_read_than_is_asked_for(far: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled_images, "MAX_FETCHED_IMAGES", 10)
    assert len(read(far)) == 10
    with sampling(far, KEY) as steps:
        next(steps)
    running = [thread for thread in threading.enumerate() if thread.name == "sampled-images"]
    for thread in running:
        thread.join(5)
        assert not thread.is_alive()


def test_what_can_not_be_read_is_raised_where_images_are_asked_for(far: ObjectStorage) -> None:
    with sampling(far, "packs/ds_none") as steps, pytest.raises(FileNotFoundError):
        list(steps)
