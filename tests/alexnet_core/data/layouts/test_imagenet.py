"""ImageNet's folder as it is published, with tiny images under the real names and in the real formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.layouts.imagenet import read_classes
from alexnet_core.data.pack import Pack
from alexnet_core.errors import DatasetInvalid

MAPPING = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n"
SYNSETS = ["n01440764", "n02012849", "n03126707"]
TRUTH = ["n03126707", "n01440764", "n02012849", "n01440764"]  # of the validation images, in order


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 16, 3), value, np.uint8)).save(path, "JPEG", quality=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As on Kaggle, but for the file with the validation images' classes."""
    root = tmp_path / "imagenet"
    for number, synset in enumerate(SYNSETS):
        for i in range(12):
            image = root / f"ILSVRC/Data/CLS-LOC/train/{synset}/{synset}_{i}.JPEG"
            write_image(image, 20 * number + i)
    for place, synset in enumerate(TRUTH, start=1):
        write_image(root / f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_{place:08d}.JPEG", 200 + SYNSETS.index(synset))
    write_image(root / "ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG", 99)
    (root / "ILSVRC/Annotations/CLS-LOC/train/n01440764").mkdir(parents=True)
    (root / "ILSVRC/Annotations/CLS-LOC/train/n01440764/n01440764_0.xml").write_text("<annotation/>")
    (root / "LOC_synset_mapping.txt").write_text(MAPPING)
    return root


def assert_understood(pack: Pack) -> None:
    assert pack.class_names == ("n01440764 tench", "n02012849 crane", "n03126707 crane")
    tested = pack.split == 2
    assert int(tested.sum()) == 4, "the validation images are the test split"
    for pixels, label in zip(pack.images[tested], pack.labels[tested], strict=True):
        assert abs(float(pixels.mean()) - 200 - int(label)) < 0.5
    trained = pack.split != 2
    assert (np.bincount(pack.labels[trained]) == 12).all()
    for pixels, label in zip(pack.images[trained], pack.labels[trained], strict=True):
        assert int(label) == round(float(pixels.mean()) // 20)
    assert (np.bincount(pack.labels[pack.split == 1], minlength=3) > 0).all(), "some are held back for validation"


def pack_of(folder: Path, tmp_path: Path) -> Pack:
    return pack_images(folder, tmp_path / "pack", IntakeOptions(name="imagenet"))


def test_kaggles_folder_is_understood(folder: Path, tmp_path: Path) -> None:
    rows = [f"ILSVRC2012_val_{place:08d},{synset} 85 1 9 8 {synset} 1 2 3 4 " for place, synset in enumerate(TRUTH, 1)]
    (folder / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]) + "\n")
    assert_understood(pack_of(folder, tmp_path))


def write_devkit(folder: Path) -> Path:
    """Its numbers are not in the order of the synsets; `meta.mat` also has classes above them."""
    kit = folder / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    numbers = {"n02012849": 1, "n03126707": 2, "n01440764": 3, "n00001740": 1001}
    kind = [("ILSVRC2012_ID", float), ("WNID", "O"), ("words", "O")]
    synsets = np.array([(number, synset, "words") for synset, number in numbers.items()], dtype=kind)
    scipy.io.savemat(kit / "meta.mat", {"synsets": synsets[:, None]})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{numbers[s]}\n" for s in TRUTH))
    return kit


def test_the_development_kits_ground_truth_is_understood(folder: Path, tmp_path: Path) -> None:
    write_devkit(folder)
    assert_understood(pack_of(folder, tmp_path))


def test_validation_images_that_were_sorted_by_hand_are_understood(folder: Path, tmp_path: Path) -> None:
    val = folder / "ILSVRC/Data/CLS-LOC/val"
    for place, synset in enumerate(TRUTH, start=1):
        name = f"ILSVRC2012_val_{place:08d}.JPEG"
        (val / synset).mkdir(exist_ok=True)
        (val / name).rename(val / synset / name)
    assert_understood(pack_of(folder, tmp_path))


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match=r"is in neither LOC_val_solution.csv nor") as caught:
        pack_of(folder, tmp_path)
    assert caught.value.problem == "imagenet_incomplete"
    kit = write_devkit(folder)
    meta = (kit / "meta.mat").read_bytes()
    (kit / "meta.mat").unlink()
    with pytest.raises(DatasetInvalid, match="is not beside it"):
        pack_of(folder, tmp_path)
    (kit / "meta.mat").write_bytes(meta[:150])
    with pytest.raises(DatasetInvalid, match="can't be read"):
        pack_of(folder, tmp_path)
    (kit / "meta.mat").write_bytes(meta)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n3\n7\n")
    with pytest.raises(DatasetInvalid, match="does not have the class number 7"):
        pack_of(folder, tmp_path)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n3\n1001\n")
    with pytest.raises(DatasetInvalid, match=r"n00001740, which is not in LOC_synset_mapping.txt"):
        pack_of(folder, tmp_path)


def test_lines_without_a_synset_are_classes_as_they_stand() -> None:
    assert list(read_classes("cat\n\nwild dog, dingo\n").values()) == ["cat", "wild dog, dingo"]
    assert read_classes(MAPPING)["n02012849"] == "n02012849 crane"
