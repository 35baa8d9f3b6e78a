"""Predicts all images of a dataset or an archive, beside the training in the worker's slots, in a confined child.

The child writes segment after segment of the results. Each is published in the store and then recorded in the database
under the lease; an attempt begins behind the last one that is recorded. What was published and not recorded belongs to
nobody: its name tells the lease that has ended, and the sweep of leftovers removes it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from alexnet_core.layout import MANIFEST, STATE, UPLOAD_CONTENT, predictions_key, segment_key, upload_key
from alexnet_core.predictions.prediction_messages import (
    PredictDone,
    PredictFailed,
    PredictProgress,
    PredictReport,
    PredictSpec,
    SegmentStored,
    SegmentWritten,
    parse_predict_report,
)
from trainyard import failpoints
from trainyard.artifacts import predictions
from trainyard.artifacts.checkpoints import find_usable, has_its_manifest
from trainyard.artifacts.examination import set_aside_unless_whole
from trainyard.artifacts.predictions import NewSegment
from trainyard.artifacts.quotas import Quota
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, Dataset, Job
from trainyard.errors import DatabaseUnavailable, LeaseLost
from trainyard.scheduling.leases import Ending, Lease
from trainyard.settings import Settings
from trainyard.storage.interface import Storage, StoredFilesDamaged
from trainyard.upkeep.leftovers import sweep_predictions
from trainyard.upload_errors import QuotaExceeded
from worker.beside.endings import explain, write_ending
from worker.beside.heartbeats import Heartbeats
from worker.beside.reporting_child import ChildEnded, ReportingChild
from worker.datasets.preparation import PreparationFailed, has_pack, prepare_builtin
from worker.machine.devices import threads_per_slot
from worker.waiting import enter_beside, run_beside

log = logging.getLogger(__name__)

SEGMENT_S = 15.0  # a slow network's results can be read soon, too
_CHECKPOINT_CODES = {"checkpoint_corrupt", "checkpoint_missing"}


class BulkPredictor:
    """Runs one prediction from its claim to its end."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        *,
        is_draining: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings, self._database, self._storage = settings, database, storage
        self._is_draining, self._sleep = is_draining, sleep

    def run(self, work: Job, lease: Lease) -> None:
        """Predict what is left, and write the end."""
        facts = {"prediction": work.id, "lease_epoch": lease.lease_epoch, "attempt": work.attempt}
        log.info("a prediction begins", extra=facts)
        attempt = _Attempt(self._settings, self._database, self._storage, work, lease, self._is_draining, self._sleep)
        try:
            try:
                ending = attempt.predict()
            except (ChildEnded, PreparationFailed) as exc:
                ending = attempt.end_by(exc.code, str(exc))
            except QuotaExceeded as exc:
                ending = Ending(failure=exc.code, message=str(exc))
            except Exception as exc:
                ending = explain(exc, facts)
            write_ending(self._settings, self._database, lease, ending, sleep=self._sleep)
        except LeaseLost as exc:
            log.warning("a prediction ends: %s", exc, extra=facts)
            return
        finally:
            attempt.close()
        log.info("a prediction ends", extra=facts | {"ending": str(ending)})


class _Attempt:
    """One attempt at a prediction."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        work: Job,
        lease: Lease,
        is_draining: Callable[[], bool],
        sleep: Callable[[float], None],
    ) -> None:
        self._settings, self._database, self._storage, self._sleep = settings, database, storage, sleep
        self._work, self._lease = work, lease
        self._beat = Heartbeats(database, lease, settings.lease_ttl_s, is_draining)
        self._writer = f"{work.id}-e{lease.lease_epoch}"
        self._held = ExitStack()
        self._checkpoint: Checkpoint | None = None
        self._num_images: int | None = None

    def close(self) -> None:
        """Release what is read, and remove what is not in the store."""
        self._held.close()
        self._storage.clear(predictions_key(self._work.id), self._writer)

    def predict(self) -> Ending:
        """Predict what is left.

        Raises:
            ChildEnded, PreparationFailed: it can't be done, and the code says why.
            StopRequested: it must stop.
            LeaseLost: the lease is over.
            QuotaExceeded: the results take more than their owner may have.
        """
        sweep_predictions(self._database, self._storage, [self._work.id])  # what an attempt before has left
        with self._database.reading() as session:
            first_row = predictions.read_totals(session, self._work.id).num_rows
        spec = self._build_spec(first_row)
        child = ReportingChild(
            *("predict-many", spec, parse_predict_report, _is_answer),
            does="predicts the images",
            killed_code="prediction_failed",
            failed_code="prediction_failed",
            threads=spec.threads,
        )
        try:
            answer = child.follow(
                lambda report: self._take(report, child),
                *(self._beat,),
                tick_s=self._settings.tick_s,
                hang_s=self._settings.hang_s,
            )
        finally:
            child.end()
        if isinstance(answer, PredictFailed):
            return self.end_by(answer.code, answer.message)
        assert isinstance(answer, PredictDone)
        with self._database.reading() as session:
            totals = predictions.read_totals(session, self._work.id)
        if totals.num_rows != answer.num_rows:
            text = f"{totals.num_rows} rows are stored for {answer.num_rows} images."
            return Ending(failure="internal_error", message=text)
        return Ending(succeeded=True, test=totals.summarise())

    def end_by(self, code: str, message: str) -> Ending:
        """Return the end by a failure. A checkpoint that could not be used is examined, and taken out of use."""
        if code in _CHECKPOINT_CODES and (checkpoint := self._checkpoint) is not None:
            self._beside(lambda: set_aside_unless_whole(self._database, self._storage, checkpoint, message))
        return Ending(failure=code, message=message)

    # --- what it reads ---

    def _build_spec(self, first_row: int) -> PredictSpec:
        settings, config = self._settings, self._work.config
        checkpoint = self._hold_checkpoint()
        is_of_pack = self._work.dataset_id is not None
        pack = self._hold_pack(self._work.its_dataset) if is_of_pack else None
        target = self._storage.place(predictions_key(self._work.id), self._writer)
        target.mkdir(parents=True, exist_ok=True)
        return PredictSpec(
            pack=pack,
            pack_digest=self._work.its_dataset.digest if is_of_pack else None,
            archive=None if is_of_pack else self._hold_upload(config["upload"]),
            split=config.get("split"),
            max_entries=settings.max_dataset_files,
            max_unpacked_bytes=settings.max_unpacked_bytes,
            max_pixels=settings.max_image_pixels,
            checkpoint=checkpoint,
            top_k=config["top_k"],
            temperature=config.get("temperature") or 1.0,
            first_row=first_row,
            target=target,
            lease_epoch=self._lease.lease_epoch,
            segment_rows=settings.prediction_segment_rows,
            segment_s=SEGMENT_S,
            threads=threads_per_slot(settings, 1),
            memory_bytes=settings.prediction_memory_bytes,
            file_bytes=settings.max_pack_bytes,
            failpoints=failpoints.for_child(),
        )

    def _hold_checkpoint(self) -> Path:
        with self._database.reading() as session:
            checkpoint = self._checkpoint = find_usable(session, self._work.init_from)
        if checkpoint is None:
            text = f"Checkpoint {self._work.init_from}, which the prediction should use, can't be used."
            raise PreparationFailed("no_valid_checkpoint", text)
        try:
            folder = self._hold(checkpoint.key, without=STATE)
        except StoredFilesDamaged as exc:
            raise PreparationFailed("checkpoint_corrupt", f"{checkpoint.id}: {exc}") from exc
        except FileNotFoundError as exc:
            raise PreparationFailed("checkpoint_missing", f"{checkpoint.id} is not in the store: {exc}") from exc
        if not has_its_manifest(folder, checkpoint.manifest_sha256):
            raise PreparationFailed("checkpoint_corrupt", f"{MANIFEST} of {checkpoint.id} is not the one committed")
        return folder

    def _hold_pack(self, dataset: Dataset) -> Path:
        """Return the folder of the dataset's pack. A built-in one is made first if it is missing."""
        if not has_pack(self._storage, dataset):
            if dataset.owner is not None:
                raise PreparationFailed("dataset_unavailable", f"The pack of {dataset.id} is not in the store.")
            self._beat.note_phase("preparing_dataset")
            digest = prepare_builtin(self._settings, self._database, self._storage, dataset, while_waiting=self._beat)
            dataset.digest = dataset.digest or digest
        try:
            return self._hold(dataset.key)
        except FileNotFoundError as exc:
            raise PreparationFailed("dataset_damaged", f"The pack of {dataset.id} is missing: {exc}") from exc
        except StoredFilesDamaged as exc:
            raise PreparationFailed("dataset_damaged", f"The pack of {dataset.id} in the store: {exc}") from exc

    def _hold_upload(self, upload_id: str) -> Path:
        try:
            return self._hold(upload_key(upload_id)) / UPLOAD_CONTENT
        except FileNotFoundError:
            raise PreparationFailed("upload_missing", f"Upload {upload_id} is gone: upload the file again.") from None
        except StoredFilesDamaged as exc:
            raise PreparationFailed("upload_missing", f"Upload {upload_id} is damaged in the store.") from exc

    def _hold(self, key: str, *, without: str = "") -> Path:
        """Return a local folder of the store that is kept until the attempt's end."""
        context = self._storage.materialise(key, without=without)
        if self._storage.publishes_at_once:
            return self._held.enter_context(context)
        return enter_beside(context, self._held, while_waiting=self._beat, tick_s=self._settings.tick_s)

    # --- what it writes ---

    def _take(self, report: PredictReport, child: ReportingChild[PredictReport]) -> None:
        if isinstance(report, PredictProgress):
            self._beat.note(report.phase, report.done, report.total)
            if report.phase == "predicting":
                self._num_images = report.total
            return
        assert isinstance(report, SegmentWritten)
        self._store(report)
        child.give(SegmentStored())

    def _store(self, segment: SegmentWritten) -> None:
        """Publish a segment, then record it, however long the database takes.

        Raises:
            LeaseLost: the lease is over.
            QuotaExceeded: the owner may have no more bytes.
            StorageUnavailable: the store does not take it: the attempt ends, and another one computes it again.
        """
        root = predictions_key(self._work.id)
        key = segment_key(self._work.id, segment.name)
        folder = self._storage.place(root, self._writer) / segment.name
        self._publish(folder, key)
        failpoints.hit(f"before_recording_{segment.first_row}")
        counts = segment.counts.model_dump(exclude={"type"})
        new = NewSegment(segment.first_row, key, segment.size_bytes, segment.sha256, counts)
        quota = Quota.of(self._settings)
        while True:
            try:
                with self._database.writing() as session:
                    predictions.record_segment(session, self._lease, new, quota, num_images=self._num_images)
                break
            except DatabaseUnavailable:
                log.warning("the database does not answer; the results wait", extra={"prediction": self._work.id})
                self._sleep(self._settings.tick_s)
                self._beat()
        self._storage.clear(key, self._writer)

    def _publish(self, folder: Path, key: str) -> None:
        if self._storage.publishes_at_once:
            self._storage.publish(folder, key)
            return
        abandoned = threading.Event()
        try:
            self._beside(lambda: self._storage.publish(folder, key, is_wanted=lambda: not abandoned.is_set()))
        except BaseException:
            abandoned.set()  # the thread goes on, and nobody would know of what it publishes
            raise

    def _beside(self, work: Callable[[], object]) -> None:
        run_beside(work, while_waiting=self._beat, tick_s=self._settings.tick_s)


def _is_answer(report: PredictReport) -> bool:
    return isinstance(report, PredictDone | PredictFailed)
