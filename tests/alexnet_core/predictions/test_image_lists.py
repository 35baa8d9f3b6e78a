"""The images of packs and archives, in an order that never changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.archives.opening import open_archive
from alexnet_core.data.image_readers import FileImages
from alexnet_core.data.images import decode_image
from alexnet_core.errors import ImageError
from alexnet_core.predictions.image_lists import ArchiveImages, PackImages, read_or_explain
from tests.alexnet_core.data.intake.test_packing import write_classes
from tests.alexnet_core.toy import write_toy_pack
from tests.heic_images import PLAIN


def test_a_pack_has_its_images_in_its_order_each_with_index_split_and_class(tmp_path: Path) -> None:
    pack = write_toy_pack(tmp_path / "pack")
    every, test = PackImages(pack, None), PackImages(pack, "test")
    assert (len(every), len(test)) == (160, 30)
    [facts] = test.describe(range(4, 5))
    index = int(pack.list_indices("test")[4])
    assert (facts.index, facts.split, facts.label) == (index, "test", pack.class_names[pack.labels[index]])
    assert facts.file is None, "this pack was made from arrays"
    assert np.array_equal(test.read(4), pack.images[index])


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_an_archive_has_its_files_in_its_order_and_classes_that_the_network_knows(tmp_path: Path, kind: str) -> None:
    folder = write_classes(tmp_path / "in", {"train/cat": 2, "train/dog": 1, "test/cat": 1}, (16, 20, 3))
    (folder / "train" / "cat" / "photo.heic").write_bytes(PLAIN)
    (folder / "train" / "labels.csv").write_text("a,b\n")
    (folder / "train" / "cat" / "odd.jpg").write_bytes(b"no image")
    archive = Path(shutil.make_archive(str(tmp_path / "out"), kind, folder))
    with (
        open_archive(archive, limits=ArchiveLimits(), spool_dir=tmp_path) as source,
        FileImages(source.open) as files,
    ):
        images = ArchiveImages(source, files, ("dog", "cat", "bird"))
        facts = images.describe(range(len(images)))
        assert [it.file for it in facts] == [path for path in source.paths if path[-1] != "/" and ".csv" not in path]
        by_file = {it.file: (row, it) for row, it in enumerate(facts)}
        row, cat = by_file["test/cat/000.png"]
        assert (cat.label, cat.split, cat.index) == ("cat", "test", None)
        assert np.array_equal(images.read(row), decode_image((folder / "test/cat/000.png").read_bytes()))
        heic = images.read(by_file["train/cat/photo.heic"][0])
        assert heic.ndim == 3
        assert isinstance(read_or_explain(images, by_file["train/cat/odd.jpg"][0]), ImageError)


def test_folders_that_are_no_classes_of_the_network_are_no_labels(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "in", {"holidays": 2, "home": 1})
    (folder / "loose.png").write_bytes((folder / "home" / "000.png").read_bytes())
    archive = Path(shutil.make_archive(str(tmp_path / "out"), "zip", folder))
    with (
        open_archive(archive, limits=ArchiveLimits(), spool_dir=tmp_path) as source,
        FileImages(source.open) as files,
    ):
        images = ArchiveImages(source, files, ("dog", "cat"))
        assert len(images) == 4
        assert {it.label for it in images.describe(range(4))} == {None}
