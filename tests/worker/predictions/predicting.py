"""A database, a store with a real checkpoint and packs, and a worker that predicts with real children."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.layout import UPLOAD_CONTENT, CheckpointKind, upload_key
from alexnet_core.network.checkpoint import save_checkpoint
from tests.alexnet_core.networks import CLASSES, NARROW, make_checkpoint
from tests.trainyard import rows as db_rows
from trainyard import failpoints
from trainyard.artifacts import predictions
from trainyard.artifacts.checkpoint_commits import NewCheckpoint, commit_checkpoint
from trainyard.artifacts.predictions import NewPrediction
from trainyard.database.connection import Database, now
from trainyard.database.prediction_tables import PredictionSegment
from trainyard.database.tables import Dataset, Job
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.leases import Lease
from trainyard.settings import Settings
from trainyard.states import WorkKind
from trainyard.storage.local import LocalStorage
from worker.predictions.bulk_prediction import BulkPredictor

OWNER = db_rows.OWNER
SIDE_PX = 12


def write_images(path: Path, count: int) -> Pack:
    """A pack of noise of the network's ten classes, in all three splits."""
    noise = np.random.default_rng(5)
    return write_pack(
        path,
        name="noise",
        class_names=CLASSES,
        images_NHWC=noise.integers(0, 255, (count, SIDE_PX, SIDE_PX, 3)).astype(np.uint8),
        labels_N=np.arange(count) % len(CLASSES),
        split_N=(np.arange(count) // len(CLASSES) % 3).astype(np.uint8),
        flip_safe=True,
    )


class PredictingYard:
    """A yard on a local store, whose worker is called by the test."""

    def __init__(self, database: Database, folder: Path, **settings: Any) -> None:
        self.database, self.data_dir = database, folder / "data"
        self.storage = LocalStorage(self.data_dir)
        given: dict[str, Any] = {"data_dir": self.data_dir, "tick_s": 0.05, "prediction_segment_rows": 20}
        self.settings = Settings(**given | settings)
        self.draining = False
        self.checkpoint_id = self._add_checkpoint()

    @property
    def predictor(self) -> BulkPredictor:
        return BulkPredictor(
            self.settings, self.database, self.storage, is_draining=lambda: self.draining, sleep=lambda _: None
        )

    def _add_checkpoint(self) -> str:
        self.job_id = db_rows.submit(self.database)
        lease = db_rows.claim(self.database)
        key = f"checkpoints/{self.job_id}/epoch-00000001-e1"
        made = make_checkpoint("quick", image_px=16, **NARROW)
        saved = save_checkpoint(replace(made, path=self.storage.folder(key), state={}, state_tensors={}))
        new = NewCheckpoint(
            kind=CheckpointKind.EPOCH,
            key=key,
            epoch=1,
            step=1,
            metrics={},
            files=saved.files,
            size_bytes=saved.size_bytes,
            weights_sha256=saved.weights_sha256,
            manifest_sha256=saved.manifest_sha256,
            is_best=True,
        )
        with self.database.writing() as session:
            return commit_checkpoint(session, lease, new, keep_latest=2).id

    def network(self) -> Predictor:
        return Predictor.load(self.storage.folder(f"checkpoints/{self.job_id}/epoch-00000001-e1"))

    def add_dataset(self, count: int = 60) -> Pack:
        pack = write_images(self.storage.folder("packs/ds_noise"), count)
        facts = pack.facts.model_dump(mode="json")
        with self.database.writing() as session:
            session.add(
                Dataset(
                    id="ds_noise", owner=OWNER, name="noise", state="ready", digest=pack.digest, facts=facts,
                    key="packs/ds_noise", created_at=now(), size_bytes=1,
                )
            )  # fmt: skip
        return pack

    def add_archive(self, folder: Path) -> str:
        """The upload of a folder's zip, as it stands in the store."""
        target = self.storage.folder(upload_key("upl_1"))
        target.mkdir(parents=True)
        archive = Path(shutil.make_archive(str(self.data_dir / "archive"), "zip", folder))
        archive.rename(target / UPLOAD_CONTENT)
        return "upl_1"

    def submit(self, **fields: Any) -> str:
        given: dict[str, Any] = {"checkpoint_id": self.checkpoint_id, "top_k": 3, "model": {}} | fields
        with self.database.writing() as session:
            return predictions.submit_prediction(session, OWNER, NewPrediction(**given), max_failures=3).id

    def claim(self, worker: str = "wrk_a") -> tuple[Job, Lease]:
        claimed = claim_at_once(self.database, worker, 60, kind=WorkKind.PREDICT)
        assert claimed is not None
        return claimed

    def predict(self) -> None:
        self.predictor.run(*self.claim())

    def predict_again(self, prediction_id: str) -> None:
        db_rows.write(self.database, prediction_id, not_before=0.0)
        self.predict()

    def look(self, prediction_id: str) -> Job:
        return db_rows.look(self.database, prediction_id)

    def segments(self, prediction_id: str) -> list[PredictionSegment]:
        with self.database.reading() as session:
            return predictions.list_segments(session, prediction_id, 0, limit=1000)

    def rows(self, prediction_id: str) -> list[dict[str, Any]]:
        """All rows that are stored, in the order of their segments."""
        files = [self.storage.folder(segment.key) / "rows.ndjson" for segment in self.segments(prediction_id)]
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@contextlib.contextmanager
def failing(**actions: str) -> Iterator[None]:
    """Inside, children fail on purpose."""
    before = dict(failpoints._handed)
    failpoints._handed = actions
    try:
        yield
    finally:
        failpoints._handed = before
