"""Checkpoints of real networks in a yard's store and database, as workers leave them there."""

from __future__ import annotations

from pathlib import Path

import torch

from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.layout import CheckpointKind
from alexnet_core.network.checkpoint import Checkpoint, save_checkpoint, weights_sha256
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import resolve
from trainyard.artifacts import datasets
from trainyard.artifacts.checkpoint_commits import NewCheckpoint, commit_checkpoint
from trainyard.artifacts.datasets import register_builtins
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling import leases
from trainyard.settings import Settings


def store_network(settings: Settings, recipe: str = "quick", *, epochs: int = 1) -> str:
    """Store an untrained network as the checkpoints of a job's epochs, and return the id of the last."""
    database = Database(settings.sqlalchemy_url)
    migrate(database)
    register_builtins(database, {name: dataset.facts for name, dataset in BUILTINS.items()})
    with database.writing() as session:
        dataset = datasets.get_dataset(session, "local", "digits")
        job = jobs.submit(
            session, "local", dataset, NewJob(recipe=recipe, config={"epochs": epochs}, seed=1, max_failures=3)
        )
        assert leases.claim(session, "wrk_test", 600) is not None
        job_id = job.id
    made = ""
    for epoch in range(1, epochs + 1):
        made = store_epoch(settings, database, job_id, recipe, epoch)
    database.close()
    return made


def store_epoch(settings: Settings, database: Database, job_id: str, recipe: str, epoch: int) -> str:
    """Store one more epoch's checkpoint of a job that `store_network` has made, and return its id."""
    facts = BUILTINS["digits"].facts
    _, config = resolve(recipe, {}, facts)
    channels = config.channels or facts.channels
    torch.manual_seed(epoch)
    weights = build_model(config, facts.num_classes, channels).state_dict()
    mean, std = (100.0,) * channels, (50.0,) * channels
    transform = Preprocessing(image_px=config.image_px, channels=channels, mean=mean, std=std)
    digest = weights_sha256(weights)
    metadata = {"format_version": 1, "kind": "epoch", "epoch": epoch, "weights_sha256": digest}
    key = f"checkpoints/{job_id}/epoch-{epoch:08d}-e1"
    folder: Path = settings.data_dir / key
    saved = save_checkpoint(Checkpoint(folder, config, facts.class_names, transform, metadata, weights))
    new = NewCheckpoint(
        kind=CheckpointKind.EPOCH,
        key=key,
        epoch=epoch,
        step=10 * epoch,
        metrics={"val_top1": 0.5},
        files=saved.files,
        size_bytes=saved.size_bytes,
        weights_sha256=digest,
        manifest_sha256=saved.manifest_sha256,
        is_best=True,
    )
    with database.writing() as session:
        return commit_checkpoint(session, leases.Lease(job_id, 1, "wrk_test"), new, keep_latest=2).id
