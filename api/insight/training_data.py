"""Finds the dataset that a checkpoint was trained on."""

from __future__ import annotations

from alexnet_core.insight.calibration import choose_held_out
from alexnet_core.insight.methods import Split
from api.downloads.stored_packs import StoredPack
from trainyard.artifacts import datasets
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.insight_errors import DatasetDiffers
from trainyard.jobs import jobs


def find_training_data(database: Database, checkpoint: Checkpoint) -> tuple[StoredPack, Split]:
    """Return the dataset that a checkpoint was trained on, and the split that it was not trained on.

    Raises:
        DatasetNotFound, DatasetNotReady, DatasetRejected: it is not there any more.
        DatasetDiffers: another one has its place.
    """
    with database.reading() as session:
        job = jobs.get_job(session, checkpoint.owner, checkpoint.job_id)
        dataset = datasets.get_dataset(session, checkpoint.owner, job.its_dataset.id, param="model")
        stored = StoredPack.of(dataset)
        if job.dataset_digest is not None and job.dataset_digest != stored.digest:
            raise DatasetDiffers(
                f"dataset {stored.dataset_id} has changed since job {job.id} was trained on it: train a new job",
                param="model",
            )
        num_validation = (dataset.facts or {}).get("num_val") or 0
        return stored, choose_held_out(str(job.config.get("validate_on", "")), num_validation)
