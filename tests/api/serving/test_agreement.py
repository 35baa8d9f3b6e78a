"""A model in bf16 is compared with fp32 on the dataset's test images, and replaced if it disagrees too often."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.published.builtin import prepare
from api.app import create_app
from api.reading import sampled_images
from api.serving import agreement
from api.serving.agreement import Compared, Comparison
from api.serving.interface import Agreement
from api.serving.runtime import OpenVinoRuntime
from tests.api.served import FakeModel, FakeRuntime, Served, wait_until
from tests.api.stored_networks import store_epoch, store_network
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.errors import StorageUnavailable
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
    assert len(steps) == -(-360 // sampled_images.STEP_IMAGES)
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
        wait_until(lambda: loader.comparison.agreements, timeout_s=60)
        wait_until(lambda: loader.latest.model.precision == precision, timeout_s=60)
        about = served.http.get("/v2/models/latest").json()["parameters"]
        assert (about["precision"], about["agreement"]) == (precision, share)
        image = np.zeros((8, 8, 1), np.uint8)
        assert len(loader.latest.model.compute([loader.latest.model.preprocess(image)]).probabilities) == 1
    finally:
        served.stop()
        database.close()


def test_every_loaded_checkpoint_is_compared_the_newest_first(settings: Settings, checkpoint_id: str) -> None:
    database = Database(settings.sqlalchemy_url)
    with database.reading() as session:
        job_id = session.get_one(Checkpoint, checkpoint_id).job_id
    newest = store_epoch(settings, database, job_id, "quick", 2)
    served = Served(create_app(settings, database=database, waker=SilentWaker()), database, settings)
    try:
        comparison = served.app.state.services.engine._loader.comparison
        wait_until(lambda: newest in comparison.agreements, timeout_s=60)
        assert checkpoint_id not in comparison.agreements, "it is not loaded"
        about = f"/v2/models/{checkpoint_id}"
        assert served.http.get(about).json()["parameters"]["agreement"] is None
        wait_until(lambda: checkpoint_id in comparison.agreements, timeout_s=60)
        assert served.http.get(about).json()["parameters"]["agreement"] > 0.9
    finally:
        served.stop()
        database.close()


class TestGoingOn:
    """What is compared, when, and how often, with a comparison that the test plays."""

    @pytest.fixture
    def comparison(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Comparison]:
        database = Database(settings.sqlalchemy_url)
        played = Comparison(database, LocalStorage(settings.data_dir), OpenVinoRuntime(1, "bf16"))
        self.begun: list[str] = []
        self.closed: list[str] = []
        self.error: Exception | None = None

        def run(checkpoint_id: str) -> Iterator[Compared | None]:
            self.begun.append(checkpoint_id)
            try:
                yield None
                if self.error is not None:
                    raise self.error
                yield None
            finally:
                self.closed.append(checkpoint_id)

        monkeypatch.setattr(played, "run", run)
        yield played
        database.close()

    def test_it_goes_on_where_it_stopped_and_ends_for_another(self, comparison: Comparison) -> None:
        assert comparison.go_on("ckpt_1", lambda: True) is None
        assert comparison.running_id == "ckpt_1"
        comparison.go_on("ckpt_1", lambda: True)
        assert self.begun == ["ckpt_1"]
        comparison.go_on("ckpt_2", lambda: True)
        assert (self.begun, self.closed, comparison.running_id) == (["ckpt_1", "ckpt_2"], ["ckpt_1"], "ckpt_2")

    def test_what_has_no_images_is_not_tried_again(self, comparison: Comparison) -> None:
        model = BF16()
        assert comparison.is_due("ckpt_1", model)
        comparison.go_on("ckpt_1", lambda: False)
        assert not comparison.is_due("ckpt_1", model)
        assert comparison.is_due("ckpt_2", model)

    def test_what_failed_is_tried_again_later(self, comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error = StorageUnavailable()
        comparison.go_on("ckpt_1", lambda: False)
        assert not comparison.is_due("ckpt_1", BF16())
        later = time.monotonic() + agreement.TRY_AGAIN_S + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert comparison.is_due("ckpt_1", BF16())

    @pytest.mark.parametrize(("error", "is_ours"), [(StorageUnavailable(), False), (ValueError("a"), True)])
    def test_only_a_mistake_is_logged_with_its_traceback(
        self, comparison: Comparison, caplog: pytest.LogCaptureFixture, error: Exception, is_ours: bool
    ) -> None:
        self.error = error
        comparison.go_on("ckpt_1", lambda: False)
        assert [bool(record.exc_info) for record in caplog.records] == [is_ours]


class BF16(FakeModel):
    precision = "bf16"

    def __init__(self) -> None:
        super().__init__(FakeRuntime(), "")
