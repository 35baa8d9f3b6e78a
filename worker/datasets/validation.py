"""Validates users' datasets, beside the training in the worker's slots, each in a confined child process.

A validation is leased work like a job. While the child reads the dataset, each tick writes a heartbeat with the child's
progress, under the lease. A pack is in the store before the database says that the dataset is ready.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from alexnet_core.config import DatasetFacts
from alexnet_core.data.intake.child_messages import (
    DATASET_TOO_COSTLY,
    IntakeDone,
    IntakeFailed,
    IntakeProgress,
    IntakeReport,
    IntakeSpec,
    parse_intake_report,
)
from alexnet_core.layout import UPLOAD_CONTENT, draft_prefix, upload_key
from alexnet_core.recipes import resolve_to_json
from trainyard import failpoints
from trainyard.artifacts.dataset_intake import MadePack, settle
from trainyard.artifacts.operator_folders import find_source
from trainyard.database.connection import Database
from trainyard.database.tables import Dataset, Job
from trainyard.errors import DatabaseUnavailable, InvalidRequest, LeaseLost, StorageUnavailable
from trainyard.scheduling.leases import Ending, Lease
from trainyard.settings import Settings
from trainyard.states import DatasetState
from trainyard.storage.interface import Storage
from worker.beside.endings import explain, write_ending
from worker.beside.heartbeats import Heartbeats
from worker.beside.reporting_child import ChildEnded, ReportingChild
from worker.waiting import enter_beside, run_beside

log = logging.getLogger(__name__)

PUBLISHING = "publishing"
_TOO_LONG = "To read the dataset takes more than the {} seconds of CPU time that are allowed."


@dataclass(frozen=True)
class _Outcome:
    """How a validation ended, and what the dataset gets from it."""

    ending: Ending
    made: MadePack | None = None
    report: dict[str, Any] | None = None


class Validator:
    """Runs one validation from its claim to its end."""

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
        """Validate a dataset and settle it."""
        writer = f"{lease.job_id}-e{lease.lease_epoch}"
        facts = {"dataset": work.dataset_id, "lease_epoch": lease.lease_epoch, "attempt": work.attempt}
        log.info("a validation begins", extra=facts)
        try:
            try:
                outcome = self._validate(work, lease, writer)
            except Exception as exc:
                outcome = _Outcome(explain(exc, facts))
            failpoints.hit("before_settling")
            write_ending(
                *(self._settings, self._database, lease, outcome.ending),
                beside=lambda session: settle(
                    session, lease.job_id, made=outcome.made, report=outcome.report, complete=resolve_to_json
                ),
                sleep=self._sleep,
            )
        except LeaseLost as exc:
            log.warning("a validation ends: %s", exc, extra=facts)
            self._sweep(work.its_dataset)
            return
        finally:
            self._storage.clear(work.its_dataset.key, writer)
        log.info("a validation ends", extra=facts | {"ending": str(outcome.ending)})

    def _validate(self, work: Job, lease: Lease, writer: str) -> _Outcome:
        dataset = work.its_dataset
        beat = Heartbeats(self._database, lease, self._settings.lease_ttl_s, self._is_draining)
        with ExitStack() as held:
            try:
                source = self._find_source(dataset, held, beat)
            except (FileNotFoundError, InvalidRequest) as exc:
                log.warning("a dataset's files are gone: %s", exc, extra={"dataset": dataset.id})
                return _Outcome(Ending(failure="upload_missing"))  # no path of this machine
            target = self._storage.place(dataset.key, writer)
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_drafts(target)
            spec = self._build_spec(dataset, source, target, self._find_parent(dataset, held, beat))
            answer = self._take_in(spec, beat)
            if isinstance(answer, IntakeFailed):
                ending = Ending(failure=answer.code, message=answer.message)
                return _Outcome(ending, report=_with_problem(answer))
            self._publish(target, dataset.key, beat)
            size = sum(file.stat().st_size for file in target.iterdir())
        known = {name: answer.pack[name] for name in DatasetFacts.model_fields if name in answer.pack}
        facts = DatasetFacts.model_validate(known | {"name": dataset.name})
        made = MadePack(facts, digest=str(answer.pack["digest"]), size_bytes=size)
        return _Outcome(Ending(succeeded=True), made, answer.report)

    def _find_source(self, dataset: Dataset, held: ExitStack, beat: Heartbeats) -> Path:
        """Return the folder or archive on this machine, kept until the validation's end.

        Raises:
            FileNotFoundError: the upload is gone.
            InvalidRequest: the path is no longer below one of the operator's folders.
        """
        source = dataset.source or {}
        if "path" in source:
            return find_source(self._settings.dataset_folders, source["path"])
        return self._hold(upload_key(source["upload"]), held, beat) / UPLOAD_CONTENT

    def _find_parent(self, dataset: Dataset, held: ExitStack, beat: Heartbeats) -> Path | None:
        """Return the pack of the version before, if there is one that is ready."""
        if dataset.parent_id is None:
            return None
        with self._database.reading() as session:
            ready = select(Dataset.key).where(Dataset.id == dataset.parent_id, Dataset.state == DatasetState.READY)
            key = session.scalar(ready)
        try:
            return None if key is None else self._hold(key, held, beat)
        except FileNotFoundError:
            return None  # it was deleted just now

    def _hold(self, key: str, held: ExitStack, beat: Heartbeats) -> Path:
        context = self._storage.materialise(key)
        if self._storage.publishes_at_once:
            return held.enter_context(context)
        return enter_beside(context, held, while_waiting=beat, tick_s=self._settings.tick_s)

    def _build_spec(self, dataset: Dataset, source: Path, target: Path, parent: Path | None) -> IntakeSpec:
        settings = self._settings
        return IntakeSpec(
            source=source,
            target=target,
            name=dataset.name,
            options=dataset.options or {},
            max_entries=settings.max_dataset_files,
            max_unpacked_bytes=settings.max_unpacked_bytes,
            max_pixels=settings.max_image_pixels,
            parent_pack=parent,
            memory_bytes=settings.validation_memory_bytes,
            cpu_s=settings.validation_cpu_s,
            file_bytes=settings.max_pack_bytes,
            failpoints=failpoints.for_child(),
        )

    def _take_in(self, spec: IntakeSpec, beat: Heartbeats) -> IntakeDone | IntakeFailed:
        """Run the child to its end. One that makes no progress and takes no CPU time for `hang_s` is killed."""
        child = ReportingChild(
            *("intake", spec, parse_intake_report, _is_answer),
            does="reads the dataset",
            killed_code="validation_killed",
            failed_code="preparation_failed",
            too_long=(DATASET_TOO_COSTLY, _TOO_LONG.format(spec.cpu_s)),
        )
        try:
            answer = child.follow(
                lambda report: _note(report, beat), beat, tick_s=self._settings.tick_s, hang_s=self._settings.hang_s
            )
        except ChildEnded as exc:
            return IntakeFailed(code=exc.code, message=exc.message)
        finally:
            child.end()
            _remove_drafts(spec.target, child.pid)
        assert isinstance(answer, IntakeDone | IntakeFailed)
        return answer

    def _publish(self, folder: Path, key: str, beat: Heartbeats) -> None:
        if self._storage.publishes_at_once:
            self._storage.publish(folder, key)
            return
        beat.note_phase(PUBLISHING)
        abandoned = threading.Event()
        publish = lambda: self._storage.publish(folder, key, is_wanted=lambda: not abandoned.is_set())  # noqa: E731
        try:
            run_beside(publish, while_waiting=beat, tick_s=self._settings.tick_s)
        except BaseException:
            abandoned.set()  # the thread goes on, and another worker may publish the pack meanwhile
            raise

    def _sweep(self, dataset: Dataset) -> None:
        """Remove the pack of a dataset that was deleted meanwhile; its removal may have come before the pack."""
        try:
            with self._database.reading() as session:
                state = session.scalar(select(Dataset.state).where(Dataset.id == dataset.id))
            if state in {None, DatasetState.DELETED}:
                self._storage.delete(dataset.key)
        except (OSError, DatabaseUnavailable, StorageUnavailable) as exc:
            log.warning("leftovers are not removed now: %s", exc)


def _is_answer(report: IntakeReport) -> bool:
    return not isinstance(report, IntakeProgress)


def _note(report: IntakeReport, beat: Heartbeats) -> None:
    assert isinstance(report, IntakeProgress)
    beat.note(report.phase, report.done, report.total)


def _remove_drafts(target: Path, pid: int | None = None) -> None:
    """Remove what children that were killed, or only one of them, have written of a pack.

    An attempt removes all of them before it begins: whoever still writes one has lost its lease, and fails. At its end
    it removes only its own child's, because it may have lost its lease to another one itself.
    """
    for name in target.parent.glob(f"{draft_prefix(target.name, pid)}*"):
        shutil.rmtree(name, ignore_errors=True)


def _with_problem(answer: IntakeFailed) -> dict[str, Any] | None:
    if answer.report is None and answer.problem is None:
        return None
    return {"problem": answer.problem} | (answer.report or {})
