"""Puts a checkpoint's download together: its files, the weights in the wanted format, and the model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from alexnet_core.evaluation.job_evaluation import MAX_BYTES, JobEvaluation, parse_last_record
from alexnet_core.layout import CHECKPOINT_FILES, MANIFEST, WEIGHTS, evaluation_key
from api.downloads.archive import Archive, Damaged
from api.downloads.exports import Exports
from api.downloads.model_card import MAX_EPOCHS, MODEL_CARD, CardFacts, write_card
from trainyard.artifacts.checkpoints import has_its_manifest
from trainyard.database.tables import Checkpoint, Dataset, Job
from trainyard.errors import CheckpointNotFound
from trainyard.jobs import job_log
from trainyard.jobs.metrics import read_thinned
from trainyard.states import MetricKind
from trainyard.storage.interface import Storage

SAFETENSORS = "safetensors"  #: the format in which weights are stored


def read_card_facts(session: Session, storage: Storage, checkpoint: Checkpoint) -> CardFacts:
    """Read what the model card of a checkpoint is written from.

    Raises:
        CheckpointNotFound: its job was deleted meanwhile.
    """
    of_job = select(Job, Dataset).join(Dataset, Dataset.id == Job.dataset_id).where(Job.id == checkpoint.job_id)
    found = session.execute(of_job).one_or_none()
    if found is None:
        raise CheckpointNotFound(f"checkpoint {checkpoint.id} was just deleted with its job", param="checkpoint_id")
    job, dataset = found
    epochs, _ = read_thinned(session, job.id, MetricKind.EPOCH, since=0, max_points=MAX_EPOCHS)
    return CardFacts(checkpoint, job, dataset, epochs, _read_evaluation(storage, job.id))


def _read_evaluation(storage: Storage, job_id: str) -> JobEvaluation | None:
    record = parse_last_record(job_log.read_tail(storage, evaluation_key(job_id), lines=1, max_bytes=MAX_BYTES))
    return None if record is None else record.evaluation


def pack_checkpoint(facts: CardFacts, folder: Path, form: str, exports: Exports) -> Archive:
    """Open and verify all files of a download.

    Args:
        facts: for the card.
        folder: the checkpoint's files.
        form: `safetensors`, or what `Exports` makes.
        exports: makes the other formats.

    Raises:
        Damaged: a file is missing, or is not the one that was committed.
        CheckpointCorrupt: the same, found in the conversion.
        ServiceError: what `Exports.holding` raises.
    """
    checkpoint = facts.checkpoint
    if not has_its_manifest(folder, checkpoint.manifest_sha256):
        raise Damaged(f"{MANIFEST} is not the one that was committed")
    archive = Archive(checkpoint)
    sent: dict[str, dict[str, Any]] = {}
    for name in CHECKPOINT_FILES:
        if name != WEIGHTS or form == SAFETENSORS:
            sent[name] = checkpoint.files.get(name, {})
            archive.add_file(folder / name, sent[name].get("sha256"))
    try:
        if form == SAFETENSORS:
            archive.add_file(folder / MANIFEST, checkpoint.manifest_sha256)
        else:
            with exports.holding(checkpoint.id, folder, form) as made:
                archive.add_file(made.path, made.sha256)
            sent = {made.path.name: {"sha256": made.sha256, "size": made.size_bytes}} | sent
        archive.add_bytes(MODEL_CARD, write_card(facts, form, sent))
    except BaseException:
        archive.close()
        raise
    return archive
