"""A data folder with a checkpoint that no worker trained, for Trainyard's API to serve."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.layout import MANIFEST, CheckpointKind, checkpoint_key
from alexnet_core.network.checkpoint_files import read_manifest, read_metadata
from trainyard.artifacts import datasets
from trainyard.artifacts.checkpoint_commits import NewCheckpoint, commit_checkpoint
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling import leases
from trainyard.settings import Settings

_DATASET = "digits"  # that the job names; nobody reads it
_LEASE_S = 24 * 3600.0  # longer than any benchmark: nobody takes the job away


def plant(checkpoint: Path, data_dir: Path) -> str:
    """Make a data folder whose `latest` is a copy of a checkpoint, and return the id of the job that has it."""
    database = Database(Settings(data_dir=data_dir).sqlalchemy_url)
    try:
        migrate(database)
        datasets.register_builtins(database, {_DATASET: BUILTINS[_DATASET].facts})
        with database.writing() as session:
            dataset = datasets.get_dataset(session, "local", _DATASET)
            job = jobs.submit(session, "local", dataset, NewJob(recipe="quick", config={}, seed=1, max_failures=1))
            claimed = leases.claim(session, "wrk_bench", _LEASE_S)
            assert claimed is not None
        publish(database, checkpoint, data_dir, job.id, 1)
        return job.id
    finally:
        database.close()


def publish(database: Database, checkpoint: Path, data_dir: Path, job_id: str, epoch: int) -> None:
    """Publish a copy of a checkpoint as that of the job's next epoch, as its worker would."""
    store(checkpoint, data_dir, job_id, epoch)
    commit(database, checkpoint, job_id, epoch)


def store(checkpoint: Path, data_dir: Path, job_id: str, epoch: int) -> None:
    """Write a copy of a checkpoint as that of an epoch, which nobody knows of before `commit`."""
    shutil.copytree(checkpoint, data_dir / _key(job_id, epoch))


def commit(database: Database, checkpoint: Path, job_id: str, epoch: int) -> None:
    """Make a stored copy of a checkpoint the newest of its job."""
    manifest, facts = read_manifest(checkpoint), read_metadata(checkpoint)
    files = manifest["files"] | manifest["state_files"]
    new = NewCheckpoint(
        kind=CheckpointKind.EPOCH,
        key=_key(job_id, epoch),
        epoch=epoch,
        step=epoch,
        metrics={},
        files=files,
        size_bytes=sum(entry["size"] for entry in files.values()),
        weights_sha256=facts["weights_sha256"],
        manifest_sha256=hashlib.sha256((checkpoint / MANIFEST).read_bytes()).hexdigest(),
        is_best=True,
    )
    with database.writing() as session:
        commit_checkpoint(session, leases.Lease(job_id, 1, "wrk_bench"), new, keep_latest=1)


def _key(job_id: str, epoch: int) -> str:
    return checkpoint_key(job_id, f"epoch-{epoch:08d}-e1")
