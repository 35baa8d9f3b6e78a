"""How a folder or archive says which class each image has."""

from __future__ import annotations

from pathlib import Path

from alexnet_core.data.layouts.recognition import recognise
from alexnet_core.data.sources import FolderSource


def write(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_class_folders_are_what_it_is_without_another_sign(tmp_path: Path) -> None:
    layout = recognise(FolderSource(write(tmp_path, "a/1.png", "b/2.png"))).files
    assert (layout.kind, layout.class_names) == ("class_folders", ("a", "b"))


def test_imagenet_is_known_by_its_list_of_synsets(tmp_path: Path) -> None:
    folder = write(tmp_path, "ILSVRC/Data/CLS-LOC/train/n01440764/1.JPEG", "LOC_synset_mapping.txt")
    (folder / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\n")
    layout = recognise(FolderSource(folder)).files
    assert (layout.kind, layout.class_names) == ("imagenet", ("n01440764 tench",))
