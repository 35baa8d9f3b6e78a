"""A worker has datasets prepared by a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alexnet_core.published import write_mnist
from trainyard.settings import Settings
from worker.datasets.preparation import PreparationFailed, prepare


def test_a_built_in_dataset_is_read_from_its_sub_folder_of_the_folder_of_sources(tmp_path: Path) -> None:
    write_mnist(tmp_path / "sources" / "mnist")
    settings = Settings(data_dir=tmp_path, datasets_dir=tmp_path / "sources")
    with pytest.raises(PreparationFailed, match=r"mnist hold 40 \+ 10 images, not the published") as exc:
        prepare(settings, "mnist", tmp_path / "packs" / "mnist", while_waiting=lambda: None)
    assert exc.value.code == "dataset_unavailable"


def test_a_dataset_without_a_sub_folder_comes_from_its_usual_place(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, datasets_dir=tmp_path)
    pack = prepare(settings, "digits", tmp_path / "packs" / "digits", while_waiting=lambda: None)
    assert (pack["num_train"], pack["num_test"]) == (1295, 360)
