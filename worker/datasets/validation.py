"""Validates users' datasets, beside the training in the worker's slots: one at a time, in a confined child process.

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
from alexnet_core.data.intake.child_messages import IntakeDone, IntakeFailed, IntakeProgress, IntakeSpec
from alexnet_core.durable import is_disk_full
from alexnet_core.layout import UPLOAD_CONTENT, draft_prefix, upload_key
from alexnet_core.messages import StopReason, StopRequested
from alexnet_core.recipes import resolve_to_json
from trainyard import failpoints
from trainyard.artifacts.dataset_intake import MadePack, settle
from trainyard.artifacts.operator_folders import find_source
from trainyard.database.connection import Database
from trainyard.database.tables import Dataset, Job
from trainyard.errors import DatabaseUnavailable, InvalidRequest, LeaseLost, StorageUnavailable
from trainyard.scheduling.leases import Ending, Lease, end_attempt, heartbeat, report_event
from trainyard.settings import Settings
from trainyard.states import DatasetState, Desired, EventType
from trainyard.storage.interface import Storage
from worker.claims import Claims
from worker.datasets.intake_child import IntakeChild
from worker.waiting import enter_beside, run_beside

log = logging.getLogger(__name__)

PUBLISHING = "publishing"
_HUNG = "The process that reads the dataset did nothing for {:g} seconds and was killed."


@dataclass(frozen=True)
class _Outcome:
    """How a validation ended, and what the dataset gets from it."""

    ending: Ending
    made: MadePack | None = None
    report: dict[str, Any] | None = None


class Validations(threading.Thread):
    """Claims one validation after another, until the worker drains."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        claims: Claims,
        *,
        is_draining: Callable[[], bool],
    ) -> None:
        super().__init__(name="validations", daemon=True)
        self._settings, self._claims, self._is_draining = settings, claims, is_draining
        self._validator = Validator(settings, database, storage, is_draining=is_draining)
        self._asked = threading.Event()

    def look(self) -> None:
        """Look for a validation now; otherwise that is done every tick."""
        self._asked.set()

    def run(self) -> None:
        """The thread's body."""
        while not self._is_draining():
            try:
                claimed = self._claims.take(slot=0)
                if claimed is not None:
                    self._validator.run(*claimed)
                    continue
            except DatabaseUnavailable:
                log.warning("the database does not answer; no dataset was looked for")
            except Exception:
                log.exception("no dataset was looked for")
            self._asked.wait(self._settings.tick_s)
            self._asked.clear()


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
            except LeaseLost:
                raise
            except StopRequested as exc:
                outcome = _Outcome(Ending(stopped=exc.reason.value))
            except (StorageUnavailable, DatabaseUnavailable) as exc:
                outcome = _Outcome(Ending(failure="storage_unavailable", message=str(exc)))
            except Exception as exc:
                log.exception("a validation ended with an error of the worker", extra=facts)
                code = "disk_full" if is_disk_full(exc) else "internal_error"
                told = exc.strerror if isinstance(exc, OSError) else exc  # no path of this machine
                outcome = _Outcome(Ending(failure=code, message=f"The worker: {type(exc).__name__}: {told}"))
            failpoints.hit("before_settling")
            self._settle(lease, outcome)
        except LeaseLost as exc:
            log.warning("a validation ends: %s", exc, extra=facts)
            self._sweep(work.dataset)
            return
        finally:
            self._storage.clear(work.dataset.key, writer)
        log.info("a validation ends", extra=facts | {"ending": str(outcome.ending)})

    def _validate(self, work: Job, lease: Lease, writer: str) -> _Outcome:
        dataset = work.dataset
        beat = _Heartbeats(self._database, lease, self._settings.lease_ttl_s, self._is_draining)
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

    def _find_source(self, dataset: Dataset, held: ExitStack, beat: _Heartbeats) -> Path:
        """Return the folder or archive on this machine, kept until the validation's end.

        Raises:
            FileNotFoundError: the upload is gone.
            InvalidRequest: the path is no longer below one of the operator's folders.
        """
        source = dataset.source or {}
        if "path" in source:
            return find_source(self._settings.dataset_folders, source["path"])
        return self._hold(upload_key(source["upload"]), held, beat) / UPLOAD_CONTENT

    def _find_parent(self, dataset: Dataset, held: ExitStack, beat: _Heartbeats) -> Path | None:
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

    def _hold(self, key: str, held: ExitStack, beat: _Heartbeats) -> Path:
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

    def _take_in(self, spec: IntakeSpec, beat: _Heartbeats) -> IntakeDone | IntakeFailed:
        """Run the child to its end. One that makes no progress and takes no CPU time for `hang_s` is killed."""
        child, due = IntakeChild(spec, threads=1), time.monotonic()
        used_s, moved_at = 0.0, due
        try:
            while True:
                report = child.wait(max(0.0, due - time.monotonic()))
                if isinstance(report, IntakeDone | IntakeFailed):
                    return report
                if report is not None:
                    beat.note(report)
                    moved_at = time.monotonic()
                if time.monotonic() - moved_at > self._settings.hang_s:
                    before_s, used_s, moved_at = used_s, child.cpu_s(), time.monotonic()
                    if used_s <= before_s:
                        return IntakeFailed(code="validation_killed", message=_HUNG.format(self._settings.hang_s))
                if time.monotonic() >= due:
                    beat()
                    due = time.monotonic() + self._settings.tick_s
        finally:
            child.end()
            _remove_drafts(spec.target, child.pid)

    def _publish(self, folder: Path, key: str, beat: _Heartbeats) -> None:
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

    def _settle(self, lease: Lease, outcome: _Outcome) -> None:
        """Write the validation's end, however long it takes the database to answer.

        Raises:
            LeaseLost: another worker has it, or the dataset was deleted.
        """
        while True:
            try:
                with self._database.writing() as session:
                    end_attempt(session, lease, outcome.ending, first_backoff_s=self._settings.backoff_s)
                    settle(
                        *(session, lease.job_id),
                        made=outcome.made,
                        report=outcome.report,
                        complete=resolve_to_json,
                    )
                return
            except DatabaseUnavailable:
                log.warning("the database does not answer; the dataset waits", extra={"work": lease.job_id})
                self._sleep(self._settings.tick_s)

    def _sweep(self, dataset: Dataset) -> None:
        """Remove the pack of a dataset that was deleted meanwhile; its removal may have come before the pack."""
        try:
            with self._database.reading() as session:
                state = session.scalar(select(Dataset.state).where(Dataset.id == dataset.id))
            if state in {None, DatasetState.DELETED}:
                self._storage.delete(dataset.key)
        except (OSError, DatabaseUnavailable, StorageUnavailable) as exc:
            log.warning("leftovers are not removed now: %s", exc)


class _Heartbeats:
    """Writes a validation's heartbeats with its newest progress. Called every tick."""

    def __init__(self, database: Database, lease: Lease, ttl_s: float, is_draining: Callable[[], bool]) -> None:
        self._database, self._lease, self._ttl_s, self._is_draining = database, lease, ttl_s, is_draining
        self._progress: dict[str, Any] | None = None
        self._told_phase: str | None = None

    def note(self, report: IntakeProgress) -> None:
        """Remember progress, to be written with the next heartbeat."""
        self._progress = report.model_dump(mode="json", include={"phase", "done", "total"})

    def note_phase(self, phase: str) -> None:
        """Remember a phase without a count."""
        self._progress = {"phase": phase, "done": 0, "total": 1}

    def __call__(self) -> None:
        """Write a heartbeat.

        Raises:
            StopRequested: there is no point in going on.
            LeaseLost: the lease is over.
        """
        if self._is_draining():
            raise StopRequested(StopReason.DRAIN)
        progress = self._progress
        try:
            with self._database.writing() as session:
                if progress is not None and progress["phase"] != self._told_phase:
                    report_event(session, self._lease, EventType.PHASE, reason=progress["phase"])
                columns = {} if progress is None else {"progress": progress, "state_reason": progress["phase"]}
                desired = heartbeat(session, self._lease, self._ttl_s, **columns)
        except DatabaseUnavailable:
            log.warning("the database does not answer; the validation goes on")
            return
        self._told_phase = None if progress is None else progress["phase"]
        if desired is not Desired.RUN:
            raise StopRequested(StopReason(desired))


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
