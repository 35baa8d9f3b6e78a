"""A model in bf16 is compared with fp32 on the dataset's test images, and replaced if it disagrees too often."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.published.builtin import prepare
from api.app import create_app
from api.serving import agreement
from api.serving.agreement import Compared, Comparison
from api.serving.interface import Agreement
from api.serving.runtime import OpenVinoRuntime
from tests.api.served import Served, wait_until
from tests.api.stored_networks import store_network
from trainyard.database.connection import Database
from trainyard.scheduling.queue import SilentWaker
from trainyard.settings import Settings
from trainyard.storage.local import LocalStorage


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, serving_precision="bf16", serving_threads=1)


@pytest.fixture
def checkpoint_id(settings: Settings) -> str:
    made = store_network(settings)
    prepare("digits", source_dir=None, target_dir=settings.data_dir / "packs" / "ds_digits")
    return made


def run(settings: Settings, checkpoint_id: str) -> list[Compared | None]:
    runtime = OpenVinoRuntime(1, "bf16")
    runtime.start()
    database = Database(settings.sqlalchemy_url)
    try:
        return list(Comparison(database, LocalStorage(settings.data_dir), runtime).run(checkpoint_id))
    finally:
        database.close()


def test_a_share_of_the_test_images_gets_the_same_class(settings: Settings, checkpoint_id: str) -> None:
    *steps, compared = run(settings, checkpoint_id)
    assert compared is not None
    assert compared.agreement.images == 360
    assert len(steps) == -(-360 // agreement.STEP_IMAGES)
    assert 0.9 < compared.agreement.share <= 1
    assert compared.exact.precision == "fp32"


def test_without_the_dataset_there_is_nothing_to_compare(settings: Settings) -> None:
    made = store_network(settings)
    (settings.data_dir / "packs").mkdir()
    with pytest.raises(FileNotFoundError):
        run(settings, made)
    assert run(settings, "ckpt_gone") == []


@pytest.mark.parametrize(("share", "precision"), [(0.996, "bf16"), (0.99, "fp32")])
def test_what_disagrees_too_often_is_replaced_by_fp32(
    settings: Settings, checkpoint_id: str, monkeypatch: pytest.MonkeyPatch, share: float, precision: str
) -> None:
    whole = Comparison.run

    def pretend(self: Comparison, checkpoint_id: str) -> Iterator[Compared | None]:
        for compared in whole(self, checkpoint_id):
            yield None if compared is None else Compared(Agreement(share, 360), compared.exact)

    monkeypatch.setattr(Comparison, "run", pretend)
    database = Database(settings.sqlalchemy_url)
    served = Served(create_app(settings, database=database, waker=SilentWaker()), database, settings)
    try:
        loader = served.app.state.services.engine._loader
        wait_until(lambda: loader.comparison.agreements)
        wait_until(lambda: loader.latest.model.precision == precision)
        about = served.http.get("/v2/models/latest").json()["parameters"]
        assert (about["precision"], about["agreement"]) == (precision, share)
        image = np.zeros((8, 8, 1), np.uint8)
        assert len(loader.latest.model.compute([loader.latest.model.preprocess(image)]).probabilities) == 1
    finally:
        served.stop()
        database.close()
