"""A worker predicts many images: with real children, on small packs and archives."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sqlalchemy import select

from alexnet_core.data.images import decode_image
from alexnet_core.errors import Diverged
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.predictions.bulk import predict_rows
from alexnet_core.predictions.image_lists import PackImages
from tests.alexnet_core.data.intake.test_packing import write_classes
from tests.alexnet_core.networks import CLASSES
from tests.api.served import wait_until
from tests.trainyard import rows as db_rows
from tests.worker.predictions.predicting import OWNER, SIDE_PX, PredictingYard, failing, write_images
from trainyard.artifacts import predictions
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, JobEvent
from trainyard.jobs import jobs
from trainyard.jobs.failures import FAILURES
from trainyard.states import CheckpointStatus, JobState, WorkKind
from trainyard.upkeep.leftovers import Leftovers

#: For what a child does: what is written of it then is written to both databases by the tests beside.
on_one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def yard(database: Database, tmp_path: Path) -> PredictingYard:
    return PredictingYard(database, tmp_path)


def test_every_image_of_a_dataset_gets_one_row_with_what_the_network_says(yard: PredictingYard) -> None:
    pack = yard.add_dataset(50)
    prediction_id = yard.submit(dataset_id="ds_noise")
    yard.predict()
    rows = yard.rows(prediction_id)
    assert [row["row"] for row in rows] == list(range(50))
    assert [segment.num_rows for segment in yard.segments(prediction_id)] == [20, 20, 10]
    expected = yard.network().predict([pack.images[17]], 3)[0]
    assert (rows[17]["index"], rows[17]["split"], rows[17]["label"], rows[17]["error"]) == (17, "validation", "h", None)
    assert [told["label"] for told in rows[17]["predictions"]] == [it.label for it in expected]
    assert [told["probability"] for told in rows[17]["predictions"]] == pytest.approx(
        [it.probability for it in expected], rel=1e-4
    )
    work = yard.look(prediction_id)
    assert work.state is JobState.SUCCEEDED
    hits = [row["predictions"][0]["label"] == row["label"] for row in rows]
    assert work.test is not None
    assert (work.test["num_rows"], work.test["num_labelled"], work.test["top1"]) == (50, 50, sum(hits) / 50)
    assert work.test["top5"] >= work.test["top1"]


@on_one_database
def test_only_the_images_of_a_split_are_predicted(yard: PredictingYard) -> None:
    yard.add_dataset(60)
    prediction_id = yard.submit(dataset_id="ds_noise", split="test")
    yard.predict()
    assert [row["index"] for row in yard.rows(prediction_id)] == [*range(20, 30), *range(50, 60)]


@on_one_database
def test_an_archive_is_predicted_without_a_dataset_and_what_is_no_image_is_a_row_with_an_error(
    yard: PredictingYard, tmp_path: Path
) -> None:
    folder = write_classes(tmp_path / "pictures", {"a": 3, "nothing": 2}, (20, 14, 3))
    (folder / "a" / "broken.png").write_bytes((folder / "a" / "000.png").read_bytes()[:300])
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / ".DS_Store").write_bytes(b"junk")
    prediction_id = yard.submit(upload_id=yard.add_archive(folder))
    yard.predict()
    rows = {row["file"]: row for row in yard.rows(prediction_id)}
    assert len(rows) == 6
    assert rows["a/broken.png"]["error"]["code"] == "image_unreadable"
    assert rows["a/broken.png"]["predictions"] == []
    assert (rows["a/001.png"]["label"], rows["nothing/000.png"]["label"]) == ("a", None), "no class of the network"
    pixels = decode_image((folder / "a" / "001.png").read_bytes())
    expected = yard.network().predict([pixels], 3)[0]
    assert [told["label"] for told in rows["a/001.png"]["predictions"]] == [it.label for it in expected]
    summary = yard.look(prediction_id).test
    assert summary is not None
    assert (summary["num_rows"], summary["num_errors"], summary["num_labelled"]) == (6, 1, 3)


@on_one_database
def test_a_temperature_changes_the_probabilities_and_no_order(yard: PredictingYard) -> None:
    pack = yard.add_dataset(5)
    prediction_id = yard.submit(dataset_id="ds_noise", temperature=2.5, top_k=10)
    yard.predict()
    network = yard.network()
    logits = network.logits(network.preprocess(pack.images[3])[None])[0]
    expected = torch.softmax(logits / 2.5, 0)
    told = yard.rows(prediction_id)[3]["predictions"]
    assert [it["probability"] for it in told] == pytest.approx([float(expected[it["index"]]) for it in told], rel=1e-4)


@pytest.mark.parametrize(
    ("where", "stored"),
    [("predict_row_45", 40), ("predict_segment_40", 40), ("predict_segment_0", 0)],
)
def test_a_child_that_is_killed_is_followed_by_one_that_goes_on_behind_the_last_stored_row(
    yard: PredictingYard, where: str, stored: int
) -> None:
    yard.add_dataset(70)
    prediction_id = yard.submit(dataset_id="ds_noise")
    with failing(**{where: "kill9"}):
        yard.predict()
    work = yard.look(prediction_id)
    assert (work.state, work.state_reason, work.failures) == (JobState.QUEUED, "prediction_failed", 1)
    assert sum(segment.num_rows for segment in yard.segments(prediction_id)) == stored
    yard.predict_again(prediction_id)
    assert [row["row"] for row in yard.rows(prediction_id)] == list(range(70))
    assert [segment.lease_epoch for segment in yard.segments(prediction_id)] == [1] * (stored // 20) + [2] * (
        4 - stored // 20
    )
    folder = yard.storage.folder(f"predictions/{prediction_id}")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        segment.key.rpartition("/")[2] for segment in yard.segments(prediction_id)
    )


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_and_repeats_no_row(database: Database, tmp_path: Path) -> None:
    """A process that predicts is killed with -9 again and again, wherever it is; its child dies with it."""
    if database.engine.dialect.name != "sqlite":
        pytest.skip("the process opens the database by a file")
    yard = PredictingYard(database, tmp_path, prediction_segment_rows=10)
    yard.add_dataset(100)
    prediction_id = yard.submit(dataset_id="ds_noise")
    url = database.engine.url.render_as_string(hide_password=False)
    places = ["predict_row_15=sleep:60", "predict_segment_30=sleep:60", "before_recording_50=sleep:60"]
    for stored, place in zip((10, 30, 50), places, strict=True):
        process = subprocess.Popen([sys.executable, "-c", _WORKER, url, str(yard.data_dir), place])
        try:
            _wait_for(yard, prediction_id, place, stored)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        db_rows.write(database, prediction_id, state=JobState.QUEUED, lease_owner=None, not_before=0.0)
    yard.predict()
    assert yard.look(prediction_id).state is JobState.SUCCEEDED
    assert [row["row"] for row in yard.rows(prediction_id)] == list(range(100))
    assert {segment.lease_epoch for segment in yard.segments(prediction_id)} == {1, 2, 3, 4}
    Leftovers(database, yard.storage, stale_s=3600).tick()
    kept = {segment.key.rpartition("/")[2] for segment in yard.segments(prediction_id)}
    assert {path.name for path in yard.storage.folder(f"predictions/{prediction_id}").iterdir()} == kept


_WORKER = """
import pathlib, sys
from alexnet_core.failpoints import Failpoints
from trainyard import failpoints
from trainyard.database.connection import Database
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.settings import Settings
from trainyard.states import WorkKind
from trainyard.storage.local import LocalStorage
from worker.predictions.bulk_prediction import BulkPredictor

url, data, place = sys.argv[1:]
settings = Settings(data_dir=data, tick_s=.05, prediction_segment_rows=10, testing=True, failpoints=place)
failpoints.arm(settings, Failpoints)
database = Database(url)
claimed = claim_at_once(database, "wrk_dead", 60, kind=WorkKind.PREDICT)
BulkPredictor(settings, database, LocalStorage(pathlib.Path(data)), is_draining=lambda: False).run(*claimed)
"""


def _count(yard: PredictingYard, prediction_id: str) -> int:
    return sum(segment.num_rows for segment in yard.segments(prediction_id))


def _wait_for(yard: PredictingYard, prediction_id: str, place: str, stored: int) -> None:
    """Return when the process has come to its failpoint: what it wrote before it is there."""
    folder = yard.storage.folder(f"predictions/{prediction_id}")
    last = "rows-00000050" if place.startswith("before_recording") else ".tmp-rows"
    wait_until(
        lambda: _count(yard, prediction_id) >= stored and any(it.name.startswith(last) for it in folder.iterdir()),
        timeout_s=120,
    )


def test_a_drain_gives_the_prediction_back_at_once_and_what_is_stored_stays(yard: PredictingYard) -> None:
    yard.add_dataset(70)
    prediction_id = yard.submit(dataset_id="ds_noise")
    with failing(predict_row_50="sleep:60"):
        thread = threading.Thread(target=yard.predictor.run, args=yard.claim())
        thread.start()
        wait_until(lambda: _count(yard, prediction_id) == 40, timeout_s=120)
        yard.draining = True
        thread.join(timeout=60)
        assert not thread.is_alive()
    work = yard.look(prediction_id)
    assert (work.state, work.state_reason, work.failures) == (JobState.QUEUED, "drain", 0)
    yard.draining = False
    yard.predict()
    assert [row["row"] for row in yard.rows(prediction_id)] == list(range(70))


def test_a_cancelled_prediction_ends_within_a_tick_and_keeps_its_rows(yard: PredictingYard) -> None:
    yard.add_dataset(70)
    prediction_id = yard.submit(dataset_id="ds_noise")
    with failing(predict_row_30="sleep:60"):
        thread = threading.Thread(target=yard.predictor.run, args=yard.claim())
        thread.start()
        wait_until(lambda: _count(yard, prediction_id) == 20, timeout_s=120)
        with yard.database.writing() as session:
            jobs.cancel(session, OWNER, prediction_id, kind=WorkKind.PREDICT)
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert yard.look(prediction_id).state is JobState.CANCELLED
    assert len(yard.rows(prediction_id)) == 20


def test_a_worker_that_lost_its_lease_writes_nothing_and_its_files_are_swept(yard: PredictingYard) -> None:
    yard.add_dataset(70)
    prediction_id = yard.submit(dataset_id="ds_noise")
    with failing(predict_row_30="sleep:10"):
        thread = threading.Thread(target=yard.predictor.run, args=yard.claim())
        thread.start()
        wait_until(lambda: _count(yard, prediction_id) == 20, timeout_s=120)
        db_rows.write(yard.database, prediction_id, lease_epoch=2, lease_owner="wrk_next")
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert yard.look(prediction_id).state is JobState.RUNNING, "it is the other worker's"
    assert len(yard.rows(prediction_id)) == 20


@pytest.mark.parametrize("source", ["archive", "checkpoint"])
def test_what_is_gone_is_told(yard: PredictingYard, source: str) -> None:
    yard.add_dataset(20)
    yard.storage.folder("uploads").mkdir()
    fields: dict[str, Any] = {"upload_id": "upl_none"} if source == "archive" else {"dataset_id": "ds_noise"}
    prediction_id = yard.submit(**fields)
    if source == "checkpoint":
        weights = next(yard.storage.folder("checkpoints").rglob("weights.safetensors"))
        weights.write_bytes(b"other bytes")
        yard.predict()
        assert yard.look(prediction_id).state_reason == "checkpoint_corrupt"
        with yard.database.reading() as session:
            assert session.scalar(select(Checkpoint.status)) is CheckpointStatus.CORRUPT
        db_rows.write(yard.database, prediction_id, not_before=0.0)
    yard.predict()
    work = yard.look(prediction_id)
    assert work.state is JobState.FAILED
    assert work.error is not None
    assert work.error["code"] == {"archive": "upload_missing", "checkpoint": "no_valid_checkpoint"}[source]


@on_one_database
def test_an_archive_that_is_none_fails_with_the_reason(yard: PredictingYard, tmp_path: Path) -> None:
    upload_id = yard.add_archive(write_classes(tmp_path / "pictures", {"a": 1}))
    (yard.storage.folder(f"uploads/{upload_id}") / "content").write_bytes(b"Rar!\x1a\x07\x01\x00" + bytes(100))
    prediction_id = yard.submit(upload_id=upload_id)
    yard.predict()
    work = yard.look(prediction_id)
    assert work.error is not None
    assert work.error["code"] == "dataset_invalid"
    assert "RAR" in work.error["message"]


class _Unbounded:
    """A network that computes a value which is not finite for each image."""

    class_names = CLASSES
    transform = Preprocessing(image_px=SIDE_PX, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)

    def __init__(self, value: float) -> None:
        self._value = value

    def preprocess(self, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.zeros((3, SIDE_PX, SIDE_PX), np.float32)

    def logits(self, batch_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        logits_BK = np.zeros((len(batch_BCHW), len(CLASSES)), np.float32)
        logits_BK[0, 3] = self._value
        return logits_BK


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_for_good(tmp_path: Path, value: float) -> None:
    images = PackImages(write_images(tmp_path / "pack", 10), None)
    rows = predict_rows(_Unbounded(value), images, first_row=0, top_k=3, temperature=1.0, threads=1)
    with pytest.raises(Diverged, match="not finite"):
        list(rows)
    assert not FAILURES[Diverged.code].retryable


def test_results_beyond_the_owners_quota_end_the_prediction_and_the_rows_before_stay(
    database: Database, tmp_path: Path
) -> None:
    yard = PredictingYard(database, tmp_path, max_dataset_bytes_per_owner=10_000)
    yard.add_dataset(60)
    prediction_id = yard.submit(dataset_id="ds_noise")
    yard.predict()
    work = yard.look(prediction_id)
    assert (work.state, (work.error or {})["code"]) == (JobState.FAILED, "quota_exceeded")
    assert len(yard.rows(prediction_id)) in {20, 40}


@on_one_database
def test_too_little_memory_is_told_and_the_worker_lives(database: Database, tmp_path: Path) -> None:
    yard = PredictingYard(database, tmp_path, prediction_memory_bytes=2**30)
    yard.add_dataset(70)
    prediction_id = yard.submit(dataset_id="ds_noise")
    with failing(predict_row_30="allocate"):
        yard.predict()
    work = yard.look(prediction_id)
    assert (work.state, (work.error or {})["code"]) == (JobState.FAILED, "dataset_too_costly")


def test_each_stored_segment_is_an_event_and_resets_the_failures(yard: PredictingYard) -> None:
    yard.add_dataset(50)
    prediction_id = yard.submit(dataset_id="ds_noise")
    db_rows.write(yard.database, prediction_id, failures=2)
    yard.predict()
    with yard.database.reading() as session:
        told = session.scalars(select(JobEvent).where(JobEvent.job_id == prediction_id).order_by(JobEvent.seq)).all()
    assert [event.data for event in told if event.type == "results"] == [
        {"rows": 20, "images": 50},
        {"rows": 40, "images": 50},
        {"rows": 50, "images": 50},
    ]
    assert yard.look(prediction_id).failures == 0


def test_a_prediction_whose_files_a_deletion_removed_is_gone(yard: PredictingYard) -> None:
    yard.add_dataset(30)
    prediction_id = yard.submit(dataset_id="ds_noise")
    yard.predict()
    with yard.database.writing() as session:
        keys = predictions.delete_prediction(session, OWNER, prediction_id)
    assert keys == [f"predictions/{prediction_id}"]
    shutil.rmtree(yard.storage.folder(keys[0]))
    assert yard.segments(prediction_id) == []
