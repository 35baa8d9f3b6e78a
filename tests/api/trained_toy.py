"""A served yard with a real, small network: its dataset, its job and its checkpoint, as a worker would leave them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from alexnet_core.data.pack import Pack
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.layout import CHECKPOINT_FILES, MANIFEST, pack_key
from alexnet_core.network.checkpoint import Checkpoint, save_checkpoint, weights_sha256
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from tests.alexnet_core.toy import CONFIG, write_toy_pack
from tests.api.served import Served
from tests.api.stored_datasets import add_dataset
from trainyard.artifacts import datasets
from trainyard.database.ids import new_id
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling import leases


@dataclass(frozen=True)
class TrainedToy:
    """What there is in the yard."""

    served: Served
    dataset_id: str
    job_id: str
    checkpoint_id: str
    pack: Pack
    predictor: Predictor

    def image(self, split: str = "test", index: int = 0) -> bytes:
        """One of the dataset's images as a PNG."""
        pixels = self.pack.images[self.pack.list_indices(split)[index]]
        return to_png(pixels)

    def logits(self, split: str) -> torch.Tensor:
        """What the network answers for a split."""
        images = torch.from_numpy(np.ascontiguousarray(self.pack.images[self.pack.list_indices(split)]))
        return self.predictor.logits(self.predictor.preprocessing.to_input(images))


def to_png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def add_trained_toy(served: Served, folder: Path) -> TrainedToy:
    """Add it; the weights are random, but always the same."""
    dataset_id = new_id("ds")
    pack = write_toy_pack(served.settings.data_dir / pack_key(dataset_id))
    add_dataset(served, pack, name=f"toy-{dataset_id[-6:]}", dataset_id=dataset_id)
    with served.database.writing() as session:
        dataset = datasets.get_dataset(session, "local", dataset_id)
        config = CONFIG.model_dump(mode="json")
        job = jobs.submit(session, "local", dataset, NewJob(recipe="quick", config=config, seed=1, max_failures=3))
        claimed = leases.claim(session, "wrk_test", 3600)
        assert claimed is not None
        assert claimed[0].id == job.id
        job_id = job.id
    torch.manual_seed(3)
    predictor = Predictor(build_model(CONFIG, 3, 1), Preprocessing.of(CONFIG, pack), pack.class_names, {})
    files, manifest = save_toy(predictor, folder / job_id)
    row = served.add_checkpoint(job_id, 1, files=files, manifest=manifest)
    return TrainedToy(served, dataset_id, job_id, row.id, pack, predictor)


def save_toy(predictor: Predictor, path: Path) -> tuple[dict[str, bytes], bytes]:
    """Return the files of a checkpoint, and its manifest."""
    weights = {name: values.detach() for name, values in predictor.model.state_dict().items()}
    metadata = {"weights_sha256": weights_sha256(weights), "epoch": 1}
    saved = Checkpoint(
        path, CONFIG, predictor.class_names, predictor.preprocessing, metadata, weights, state={}, state_tensors={}
    )
    save_checkpoint(saved)
    return {name: (path / name).read_bytes() for name in CHECKPOINT_FILES}, (path / MANIFEST).read_bytes()
