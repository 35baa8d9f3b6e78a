"""Downloads in every format, used as their model card says, with each format's own library in a process of its own."""

from __future__ import annotations

import ast
import base64
import io
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.layout import CHECKPOINT_FILES
from alexnet_core.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from alexnet_core.network.preprocess import Preprocessing
from api.downloads.packing import read_card_facts
from tests.alexnet_core.networks import NARROW, make_checkpoint
from tests.api.served import Served, error_of, sha256
from trainyard.database.tables import Checkpoint as Row
from trainyard.errors import CheckpointNotFound

TRIED = [
    ("onnx", "model.onnx"),
    pytest.param("keras", "model.weights.h5", marks=pytest.mark.slow),
    pytest.param("torch_export", "model.pt2", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """With all that an input transform can have: a resize before the cut, and a mean image."""
    pixels = np.random.default_rng(3).uniform(80, 160, (3, 30, 30)).astype("<f4")
    how = Preprocessing(
        image_px=24, resize_px=30, channels=3, mean=(1.0, 2.0, 3.0), std=(60.0, 50.0, 70.0),
        mean_image=base64.b64encode(pixels.tobytes()).decode(),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("made") / "epoch-00000001-e1"
    checkpoint = make_checkpoint("quick", image_px=24, resize_px=30, **NARROW)
    save_checkpoint(replace(checkpoint, preprocessing=how, path=path, state={}, state_tensors={}))
    return load_checkpoint(path)


@pytest.fixture
def stored(served: Served, made: Checkpoint) -> Row:
    files = {name: (made.path / name).read_bytes() for name in CHECKPOINT_FILES}
    manifest = (made.path / "manifest.json").read_bytes()
    return served.add_checkpoint(served.add_job(), 1, files=files, manifest=manifest)


def download(served: Served, row: Row, form: str, target: Path) -> Path:
    response = served.http.get(f"/checkpoints/{row.id}/download?format={form}", timeout=100)
    assert response.status_code == 200, response.text
    assert int(response.headers["content-length"]) == len(response.content)
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        tar.extractall(target, filter="data")
    return target / row.id


def write_picture(folder: Path) -> Path:
    """A picture that is not square, so that the middle has to be cut out."""
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(0, 256, (9, 14, 3), dtype=np.uint8))
    path = folder / "picture.png"
    small.resize((131, 77), Image.Resampling.BICUBIC).save(path)
    return path


def answer_of(made: Checkpoint, picture: Path) -> dict[str, float]:
    pixels_HWC = np.asarray(Image.open(picture).convert("RGB"))
    predictor = Predictor.of(made)
    [shares] = predictor.logits(predictor.preprocess(pixels_HWC)[None]).softmax(1).tolist()
    return dict(zip(made.class_names, shares, strict=True))


@pytest.mark.parametrize(("form", "file"), TRIED)
def test_the_code_of_the_card_gives_our_answer_with_the_formats_own_library(
    served: Served, stored: Row, made: Checkpoint, tmp_path: Path, form: str, file: str
) -> None:
    folder = download(served, stored, form, tmp_path / "unpacked")
    assert {path.name for path in folder.iterdir()} == {
        *(file, "MODEL_CARD.md", "config.json", "classes.json", "preprocessing.json", "metadata.json")
    }
    card = (folder / "MODEL_CARD.md").read_text()
    assert f"| `{file}` | {(folder / file).stat().st_size:,} | `{sha256((folder / file).read_bytes())}` |" in card
    [code] = re.findall(r"```python\n(.*?)```", card, re.S)
    (folder / "predict.py").write_text(code)
    picture = write_picture(folder)
    env = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-P", "predict.py", picture.name], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = answer_of(made, picture)
    told: list[tuple[str, float]] = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    assert [name for name, _ in told] == sorted(expected, key=lambda name: -expected[name])[:5]
    assert all(abs(share - expected[name]) < 2e-3 for name, share in told)


def test_the_stored_form_has_a_card_too_and_its_code_reads_the_weights(
    served: Served, stored: Row, made: Checkpoint, tmp_path: Path
) -> None:
    folder = download(served, stored, "safetensors", tmp_path / "unpacked")
    card = (folder / "MODEL_CARD.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", card, re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in done.stdout.splitlines()} == set(made.weights)
    assert "python -m alexnet_core predict" in card


def test_a_conversion_that_others_wait_for_takes_one_of_few_places(served: Served, stored: Row) -> None:
    places = [served.app.state.services.downloads.take() for _ in range(8)]
    refused = served.http.get(f"/checkpoints/{stored.id}/download?format=onnx")
    error_of(refused, 503, "too_many_downloads")
    assert refused.headers["retry-after"]
    assert served.http.get(f"/checkpoints/{stored.id}/download").status_code == 200
    for place in places:
        place.close()


def test_a_checkpoint_whose_job_is_deleted_meanwhile_is_not_found(served: Served) -> None:
    gone = Row(id="ckpt_gone", job_id="job_gone")
    with served.database.reading() as session, pytest.raises(CheckpointNotFound, match="just deleted"):
        read_card_facts(session, served.app.state.services.storage, gone)


def test_a_damaged_checkpoint_is_never_converted(served: Served, stored: Row) -> None:
    (served.settings.data_dir / stored.key / "manifest.json").write_text("{}")
    error_of(served.http.get(f"/checkpoints/{stored.id}/download?format=onnx"), 404, "checkpoint_not_found")
    assert served.http.get("/checkpoints").json()["data"] == []
