"""The engine on the real network: a checkpoint that `alexnet_core` wrote, served over HTTP."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet_core.data.images import decode_image
from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.errors import ExportUnsupported
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.inference.compiled_network import CompiledNetwork, Compiler
from alexnet_core.inference.mapped_file import Scratch
from alexnet_core.network.checkpoint import Checkpoint, save_checkpoint, weights_sha256
from alexnet_core.network.checkpoint_files import PIECE_BYTES
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import resolve
from api.app import create_app
from api.serving.runtime import OpenVinoModel, OpenVinoRuntime, TorchModel, build_runtime
from tests.api.served import Served, error_of, png
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.scheduling.queue import SilentWaker
from trainyard.settings import Settings

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path, str]]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("yard"), model_wait_s=60, serving_precision="fp32")
    database = Database(settings.sqlalchemy_url)
    migrate(database)
    served = Served(create_app(settings, database=database, waker=SilentWaker()), database, settings)
    job_id = served.add_job()
    folder = settings.data_dir / "made" / "epoch-00000010-e1"
    facts = BUILTINS["digits"].facts
    _, config = resolve("quick", {}, facts)
    torch.manual_seed(0)
    channels = config.channels or facts.channels
    weights = build_model(config, facts.num_classes, channels).state_dict()
    preprocessing = Preprocessing(
        image_px=config.image_px, channels=channels, mean=(100.0,) * channels, std=(50.0,) * channels
    )
    metadata = {"format_version": 1, "kind": "epoch", "epoch": 1, "weights_sha256": weights_sha256(weights)}
    save_checkpoint(Checkpoint(folder, config, facts.class_names, preprocessing, metadata, weights))
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    manifest = files.pop("manifest.json")
    row = served.add_checkpoint(job_id, 1, files=files, manifest=manifest)
    yield served, settings.data_dir / row.key, row.id
    served.stop()
    database.close()


def test_the_network_answers_as_it_does_without_the_api(real: tuple[Served, Path, str]) -> None:
    served, folder, checkpoint_id = real
    assert json.loads((folder / "manifest.json").read_bytes())["files"]
    response = served.http.post("/predict?top_k=1000", content=png(200, 8), headers=PNG)
    assert response.status_code == 200, response.text
    assert response.headers["x-trainyard-checkpoint"] == checkpoint_id
    predictions = response.json()["predictions"]
    assert len(predictions) == 10
    assert sum(row["probability"] for row in predictions) == pytest.approx(1)
    predictor = Predictor.load(folder)
    logits_BK = predictor.logits(torch.stack([predictor.preprocess(np.array(decode_image(png(200, 8))))]))
    expected = torch.softmax(logits_BK.double(), dim=1)[0]
    for row in predictions:
        assert row["probability"] == pytest.approx(float(expected[row["index"]]), abs=1e-6)
        assert row["label"] == predictor.class_names[row["index"]]


def test_a_batch_answers_like_one_image_alone(real: tuple[Served, Path, str]) -> None:
    served, _, _ = real
    files = [("file", (f"{value}.png", png(value, 12))) for value in range(0, 250, 25)]
    together = served.http.post("/predict?top_k=10", files=files).json()["results"]
    for (_, (_, data)), result in zip(files, together, strict=True):
        alone = served.http.post("/predict?top_k=10", content=data, headers=PNG).json()["predictions"]
        by_index = {row["index"]: row["probability"] for row in alone}
        for row in result["predictions"]:
            assert row["probability"] == pytest.approx(by_index[row["index"]], abs=1e-4)


def test_batches_of_any_size_are_computed_in_few_sizes(
    real: tuple[Served, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, _ = real
    computed: set[int] = set()
    compute = Predictor.logits

    def record(self: Predictor, batch_BCHW: torch.Tensor) -> torch.Tensor:
        computed.add(len(batch_BCHW))
        return compute(self, batch_BCHW)

    monkeypatch.setattr(Predictor, "logits", record)
    model = TorchModel(folder, threads=1)
    images = [model.preprocess(np.full((8, 8, 1), 4 * value, np.uint8)) for value in range(64)]
    alone = np.array([model.compute([image]).probabilities[0] for image in images])
    for size in range(1, 65):
        rows = model.compute(images[:size]).probabilities
        assert len(rows) == size
        np.testing.assert_allclose(np.array(rows), alone[:size], atol=1e-4)
    assert computed == {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64}


def test_flipped_bits_are_found_before_they_serve(real: tuple[Served, Path, str]) -> None:
    served, folder, _ = real
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    manifest = files.pop("manifest.json")
    broken = served.add_checkpoint(served.add_job(), 2, files=files, manifest=manifest)
    weights = served.settings.data_dir / broken.key / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-10] ^= 1
    weights.write_bytes(data)
    response: httpx.Response = served.http.post(f"/predict?model={broken.id}", content=png(), headers=PNG)
    error_of(response, 404, "checkpoint_not_found")


def test_openvino_computes_the_same_sizes_of_batches(
    real: tuple[Served, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, _ = real
    computed: set[int] = set()
    compute = CompiledNetwork.logits

    def record(self: CompiledNetwork, batch_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        computed.add(len(batch_BCHW))
        return compute(self, batch_BCHW)

    monkeypatch.setattr(CompiledNetwork, "logits", record)
    model = OpenVinoModel(Compiler(threads=1, precision="fp32").load(folder))
    images = [model.preprocess(np.full((8, 8, 1), 4 * value, np.uint8)) for value in range(64)]
    alone = np.concatenate([model.compute([image]).probabilities for image in images])
    for size in (3, 9, 33, 64):
        np.testing.assert_allclose(model.compute(images[:size]).probabilities, alone[:size], atol=1e-5)
    assert computed == {1, 3, 10, 40, 64}


def test_what_openvino_cannot_compute_is_left_to_torch(
    real: tuple[Served, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, _ = real

    def refuse(self: Compiler, folder: Path, **_: object) -> CompiledNetwork:
        raise ExportUnsupported("a layer of tomorrow")

    runtime = OpenVinoRuntime(threads=1, precision="fp32")
    runtime.start()
    by_openvino = runtime.load(folder)
    monkeypatch.setattr(Compiler, "load", refuse)
    by_torch = runtime.load(folder)
    assert isinstance(by_torch, TorchModel)
    image = np.full((8, 8, 1), 99, np.uint8)
    found, expected = (
        np.array(model.compute([model.preprocess(image)]).probabilities) for model in (by_openvino, by_torch)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("min_free_disk_bytes", "is_mapped"), [(0, True), (2**62, False)])
def test_weights_leave_free_on_the_disk_what_uploads_leave_free(
    real: tuple[Served, Path, str], tmp_path: Path, min_free_disk_bytes: int, is_mapped: bool
) -> None:
    _, folder, _ = real
    settings = Settings(data_dir=tmp_path, serving_precision="fp32", min_free_disk_bytes=min_free_disk_bytes)
    runtime = build_runtime(settings)
    runtime.start()
    model = runtime.load(folder)
    assert model.precision == "fp32"
    assert (str(tmp_path) in Path("/proc/self/maps").read_text()) == is_mapped


def test_a_load_pauses_between_its_pieces(real: tuple[Served, Path, str]) -> None:
    _, folder, _ = real
    runtime, pauses = OpenVinoRuntime(threads=1, precision="fp32", scratch=Scratch(folder.parent)), list[str]()
    runtime.start(lambda: pauses.append(threading.current_thread().name))
    assert pauses == []
    runtime.load(folder)
    pieces = -(-(folder / "weights.safetensors").stat().st_size // PIECE_BYTES)
    assert pauses == [threading.current_thread().name] * (pieces + 2), "each of the copy, then one before and after"
