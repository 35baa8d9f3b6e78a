"""The whole yard from outside: train, watch, predict, download, cancel, kill."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load as load_tensors
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import open_pack
from alexnet_core.evaluation.evaluate import evaluate
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from tests.api.served import read_member
from tests.integration.running import PATIENCE_S, RunningYard, start_yard
from trainyard.client import ApiError, Client
from trainyard.client.answers import Answer

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def digits(yard: RunningYard) -> Answer:
    """The small dataset of a yard that was given no job yet."""
    deadline = time.monotonic() + PATIENCE_S
    with Client(yard.url) as client:
        while True:
            found = next(ds for ds in client.list_datasets() if ds["name"] == "digits")
            if found["state"] == "ready" or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


def test_digits_is_prepared_before_any_job_asks_for_it(digits: Answer) -> None:
    assert (digits["state"], digits["num_train"] + digits["num_val"]) == ("ready", 1437)


@pytest.fixture(scope="module")
def finished(yard: RunningYard, digits: Answer) -> Answer:
    with Client(yard.url) as client:
        job = client.create_job("digits", overrides={"epochs": 3}, seed=7)
        return client.wait(job["id"], timeout_s=PATIENCE_S)


def test_a_job_trains_to_the_end_and_says_so(finished: Answer) -> None:
    assert finished["state"] == "succeeded", finished["error"]
    assert [change["state"] for change in finished["state_history"]] == ["queued", "running", "succeeded"]
    assert finished["progress"]["fraction"] == 1.0
    assert finished["best"]["val_top1"] > 0.5
    assert finished["test"]["num_images"] == 360
    assert finished["started_at"] <= finished["finished_at"]


def test_predictions_agree_with_the_evaluation_on_every_test_image(
    yard: RunningYard, client: Client, finished: Answer
) -> None:
    best = finished["best"]["checkpoint"]
    pack = open_pack(yard.folder / "packs" / "ds_digits")
    chosen = np.flatnonzero(np.asarray(pack.split) == 2)
    folder = _checkpoint_folder(yard, client, best)
    predictor = Predictor.load(folder)
    hits = 0
    for index in chosen[:60]:
        pixels = np.array(pack.images[index])
        answer = client.predict(_png(pixels), model=best, top_k=1)
        expected = predictor.predict([pixels], 1)[0][0]
        guess = answer["predictions"][0]
        assert guess["label"] == expected.label
        assert guess["probability"] == pytest.approx(expected.probability, abs=1e-4)
        hits += guess["index"] == int(pack.labels[index])
    assert hits / 60 > 0.5
    checkpoint = load_checkpoint(folder)
    model = build_model(checkpoint.config, len(checkpoint.class_names), checkpoint.preprocessing.channels)
    model.load_state_dict(checkpoint.weights)
    evaluation = evaluate(model, pack, "test", predictor.preprocessing)
    assert evaluation is not None
    assert evaluation["top1"] == pytest.approx(finished["test"]["top1"])


def test_latest_serves_the_last_epoch(client: Client, finished: Answer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (answer := client.predict(_png(np.zeros((8, 8, 1), np.uint8))))["model"]["epoch"] != 3:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    assert answer["model"] == {
        "checkpoint": finished["latest_checkpoint"],
        "job": finished["id"],
        "epoch": 3,
        "weights_sha256": finished["weights_sha256"],
        "alias": "latest",
        "version": answer["model"]["version"],
        "side": None,
    }


def test_the_downloaded_bundle_gives_the_same_answers_by_hand(
    yard: RunningYard, client: Client, finished: Answer
) -> None:
    best = finished["best"]["checkpoint"]
    with tarfile.open(fileobj=io.BytesIO(client.download_checkpoint(best))) as bundle:
        files = {Path(name).name: read_member(bundle, name) for name in bundle.getnames()}
    classes = json.loads(files["classes.json"])
    preprocessing = Preprocessing.model_validate_json(files["preprocessing.json"])
    model = build_model(TrainConfig.model_validate_json(files["config.json"]), len(classes), preprocessing.channels)
    model.load_state_dict(load_tensors(files["weights.safetensors"]))
    model.eval()
    pack = open_pack(yard.folder / "packs" / "ds_digits")
    for index in np.flatnonzero(np.asarray(pack.split) == 2)[:10]:
        pixels = np.array(pack.images[index])
        with torch.inference_mode():
            probabilities = model(preprocessing.to_input(torch.from_numpy(pixels)[None])).softmax(1)[0]
        guess = client.predict(_png(pixels), model=best, top_k=1)["predictions"][0]
        assert guess["label"] == classes[int(probabilities.argmax())]
        assert guess["probability"] == pytest.approx(float(probabilities.max()), abs=1e-4)


def test_the_curves_and_event_files_of_a_job_show_its_epochs(
    yard: RunningYard, finished: Answer, tmp_path: Path
) -> None:
    picture = httpx.get(f"{yard.url}/jobs/{finished['id']}/curves.png", trust_env=False, timeout=60)
    assert picture.status_code == 200
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (1000, 600)
    path = f"/checkpoints/{finished['best']['checkpoint']}/download?what=tensorboard"
    answer = httpx.get(yard.url + path, trust_env=False, timeout=60)
    assert answer.status_code == 200
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as bundle:
        bundle.extractall(tmp_path, filter="data")
    series = EventAccumulator(str(tmp_path / finished["id"] / "epochs")).Reload().Scalars("val/top1")
    assert [point.step for point in series] == [1, 2, 3]
    assert max(point.value for point in series) == pytest.approx(finished["best"]["val_top1"])


def test_a_running_job_is_served_and_a_cancel_keeps_a_checkpoint(client: Client, finished: Answer) -> None:
    job = client.create_job("digits", overrides={"epochs": 500}, seed=8)
    deadline = time.monotonic() + PATIENCE_S
    while not (job := client.get_job(job["id"]))["latest_checkpoint"]:
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
    answer = client.predict(_png(np.zeros((8, 8, 1), np.uint8)), model=job["id"])
    assert answer["model"]["job"] == job["id"]
    assert client.cancel_job(job["id"])["state"] == "cancelling"
    job = client.wait(job["id"], timeout_s=PATIENCE_S)
    assert job["state"] == "cancelled"
    newest = client.list_checkpoints(job["id"])[0]
    assert newest["id"] == job["latest_checkpoint"]
    with pytest.raises(ApiError, match="illegal_transition"):
        client.cancel_job(finished["id"])


@pytest.mark.slow
def test_kill_of_the_parent_leaves_nothing_and_the_job_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    settings = {"TRAINYARD_LEASE_TTL_S": "3", "TRAINYARD_REAPER_S": "1"}
    first = start_yard(folder, **settings)
    with Client(first.url) as client:
        job = client.create_job("digits", overrides={"epochs": 12}, seed=9)
        deadline = time.monotonic() + PATIENCE_S
        while not client.get_job(job["id"])["latest_checkpoint"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    below = first.descendants()
    assert len(below) >= 4, "queue server, API, worker and trainer"
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    first.close()
    deadline = time.monotonic() + 20  # to give their memory back may take a moment
    while alive := [pid for pid in below if _is_alive(pid)]:
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in alive]
        time.sleep(0.1)

    second = start_yard(folder, **settings)
    try:
        with Client(second.url) as client:
            resumed = client.wait(job["id"], timeout_s=PATIENCE_S)
    finally:
        assert second.stop() == 0
    assert resumed["state"] == "succeeded", resumed["error"]
    assert resumed["attempt"] == 2
    reasons = [change["reason"] for change in resumed["state_history"]]
    assert reasons == ["submitted", "claimed", "lease_lost", "claimed", "finished"]


def _checkpoint_folder(yard: RunningYard, client: Client, checkpoint_id: str) -> Path:
    """The folder whose weights are this checkpoint's."""
    job_id = client.predict(_png(np.zeros((8, 8, 1), np.uint8)), model=checkpoint_id)["model"]["job"]
    step = next(row["step"] for row in client.list_checkpoints(job_id) if row["id"] == checkpoint_id)
    folders = (yard.folder / "checkpoints" / str(job_id)).glob(f"epoch-{step:08d}-e*")
    return next(folders)


def _png(pixels_HWC: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_HWC.squeeze()).save(file, format="PNG")
    return file.getvalue()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
