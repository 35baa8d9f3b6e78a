"""Datasets in the database of a served yard, with packs in its store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import update

from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.pack import Pack
from alexnet_core.data.published import builtin
from alexnet_core.layout import pack_key
from tests.alexnet_core.data.intake.test_packing import report_of, write_classes
from tests.api.served import Served
from trainyard.database.connection import now
from trainyard.database.ids import new_id
from trainyard.database.tables import Dataset
from trainyard.states import DatasetState


def add_dataset(
    served: Served,
    pack: Pack | None,
    *,
    name: str = "mine",
    owner: str = "local",
    state: DatasetState = DatasetState.READY,
    report: dict[str, Any] | None = None,
    dataset_id: str | None = None,
) -> str:
    """A dataset of an owner, whose pack stands in the store; its id."""
    dataset_id = dataset_id or new_id("ds")
    with served.database.writing() as session:
        session.add(
            Dataset(
                id=dataset_id,
                owner=owner,
                name=name,
                state=state,
                digest=None if pack is None else pack.digest,
                facts={} if pack is None else pack.facts.model_dump(mode="json"),
                report=report,
                key=pack_key(dataset_id),
                size_bytes=None if pack is None else 1,
                created_at=now(),
                ready_at=None if pack is None else now(),
            )
        )
    return dataset_id


def add_folder(served: Served, folder: Path, *, name: str = "mine", **options: Any) -> tuple[str, Pack]:
    """A dataset from a folder of images."""
    dataset_id = new_id("ds")
    pack = pack_images(folder, served.settings.data_dir / pack_key(dataset_id), IntakeOptions(name=name, **options))
    add_dataset(served, pack, name=name, report=report_of(pack), dataset_id=dataset_id)
    return dataset_id, pack


def add_classes(served: Served, tmp_path: Path, counts: dict[str, int] | None = None) -> tuple[str, Pack]:
    """A dataset of class folders with different coloured images of 12 px."""
    counts = counts or {"train/cat": 70, "train/dog": 30, "val/cat": 5, "val/dog": 4, "test/cat": 3, "test/dog": 2}
    return add_folder(served, write_classes(tmp_path / f"images-{new_id('x')}", counts))


def make_digits_ready(served: Served) -> Pack:
    """The pack of the built-in digits, as the first worker makes it."""
    pack = builtin.prepare("digits", source_dir=None, target_dir=served.settings.data_dir / pack_key("ds_digits"))
    with served.database.writing() as session:
        values = {"state": DatasetState.READY, "digest": pack.digest, "facts": pack.facts.model_dump(mode="json")}
        session.execute(update(Dataset).where(Dataset.id == "ds_digits").values(**values, ready_at=now()))
    return pack
