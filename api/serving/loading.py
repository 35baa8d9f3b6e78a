"""The thread that loads models: those that requests ask for, and each newer published checkpoint."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from sqlalchemy import select

from alexnet_core import errors as core
from alexnet_core.errors import CheckpointCorrupt
from alexnet_core.layout import MANIFEST, STATE, WEIGHTS
from api.observability.serving_observer import LoadOutcome, ServingObserver, SilentObserver
from api.serving.agreement import Comparison
from api.serving.batching import Model
from api.serving.interface import ModelState
from api.serving.runtime import Runtime, go_on
from api.thread_priority import give_way
from trainyard.artifacts.checkpoints import get_checkpoint, get_latest, has_its_manifest
from trainyard.artifacts.examination import Condition, set_aside_unless_whole
from trainyard.database.connection import Database
from trainyard.database.tables import LOCAL_OWNER, Checkpoint
from trainyard.errors import (
    CheckpointIncompatible,
    CheckpointNotFound,
    CheckpointPruned,
    DatabaseUnavailable,
    ModelLoading,
    NoCheckpoint,
    ServiceError,
    StorageUnavailable,
)
from trainyard.states import CheckpointStatus
from trainyard.storage.interface import Storage, StoredFilesDamaged

log = logging.getLogger(__name__)

POLL_S = 1.0
NICENESS = 10
TRY_AGAIN_S = 30.0  #: after a load failed
MAX_REMEMBERED = 300  #: checkpoints


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory, verified and ready to predict."""

    checkpoint_id: str
    owner: str
    job_id: str
    epoch: int
    publication: int | None
    weights_sha256: str
    model: Model
    weights_bytes: int = 0  #: of its file of weights


class Loader(threading.Thread):
    """Keeps the models that were used last, and always `latest`."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        runtime: Runtime,
        *,
        max_loaded: int,
        max_bytes: int = 1 << 62,
        observer: ServingObserver | None = None,
        pause: Callable[[], object] = go_on,
    ) -> None:
        super().__init__(name="loader", daemon=True)
        self._pause = pause
        self._observer = observer or SilentObserver()
        self._database, self._storage, self._runtime = database, storage, runtime
        self._max_loaded, self._max_bytes = max_loaded, max_bytes
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._wanted: OrderedDict[str, tuple[Checkpoint, Future[Loaded]]] = OrderedDict()
        self._changed = threading.Condition()
        self._stopped = False
        self._look_again_at = 0.0
        self._newer_is_known = False
        self.comparison = Comparison(database, storage, runtime, pause)
        self._failed: dict[str, tuple[float, ServiceError]] = {}  #: when, and why
        self.preferred: frozenset[str] = frozenset()  #: checkpoints that aliases name: unloaded after all others
        self.latest: Loaded | None = None
        self.unusable: frozenset[str] = (
            frozenset()
        )  # passed over: this process can't load them, or can't write down that they are damaged

    @property
    def state(self) -> ModelState:
        """See `Engine.model_state`."""
        if self.latest is not None:
            return "ok"
        return "loading" if self._newer_is_known else "none"

    @property
    def room(self) -> int:
        """How many more models can be loaded before one is unloaded."""
        with self._changed:
            if sum(loaded.weights_bytes for loaded in self._loaded.values()) >= self._max_bytes:
                return 0
            return max(0, self._max_loaded - len(self._loaded) - len(self._wanted))

    def find(self, checkpoint_id: str) -> Loaded | None:
        """Return the model of a checkpoint. None: it is not loaded."""
        with self._changed:
            if (loaded := self._loaded.get(checkpoint_id)) is not None:
                self._loaded.move_to_end(checkpoint_id)
            return loaded

    def unload(self, checkpoint_id: str) -> bool:
        """Unload a model. False: it is `latest`, or an alias names it."""
        with self._changed:
            if checkpoint_id in self.preferred or (self.latest and self.latest.checkpoint_id == checkpoint_id):
                return False
            unloaded = self._loaded.pop(checkpoint_id, None)  # let go of when nobody waits for the lock
            self._tell_what_is_held()
        del unloaded
        return True

    @property
    def loaded_ids(self) -> frozenset[str]:
        """The checkpoints that are loaded."""
        with self._changed:
            return frozenset(self._loaded)

    def want(self, checkpoint: Checkpoint) -> Future[Loaded]:
        """Return the model of a checkpoint, now or when it is loaded. One load serves all who want it."""
        with self._changed:
            if (loaded := self._loaded.get(checkpoint.id)) is not None:
                self._loaded.move_to_end(checkpoint.id)
                done: Future[Loaded] = Future()
                done.set_result(loaded)
                return done
            if checkpoint.id not in self._wanted:
                pending: Future[Loaded] = Future()
                pending.set_running_or_notify_cancel()  # from here on nobody who gives up can cancel it for the others
                self._wanted[checkpoint.id] = (checkpoint, pending)
                self._changed.notify()
            return self._wanted[checkpoint.id][1]

    def forget(self, job_id: str) -> None:
        """Unload the models of a deleted job; `latest` falls back to what remains."""
        with self._changed:
            for key in [key for key, loaded in self._loaded.items() if loaded.job_id == job_id]:
                del self._loaded[key]
            if self.latest is not None and self.latest.job_id == job_id:
                self.latest = None
            self._tell_what_is_held()
            self._changed.notify()

    def stop(self) -> None:
        """End the thread after the load that it is doing."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self.is_alive():
            self.join(timeout=30)

    def run(self) -> None:
        """The thread's body."""
        self._follow_latest(load=False)  # so that readiness can name what is to come
        try:
            self._runtime.start(self._pause)
        except Exception:
            log.exception("the model runtime could not be started: this process can't predict")
            return
        while not self._stopped:
            self._look_again_at = time.monotonic() + POLL_S
            self._follow_latest()
            self._serve_wanted()
            self._compare_loaded()
            with self._changed:
                if not self._stopped and not self._wanted:
                    self._changed.wait(POLL_S)

    def _compare_loaded(self) -> None:
        """Compare a loaded model with itself in fp32, which takes its place if they disagree too often."""
        with self._changed:
            loaded = [*reversed(self._loaded.values())]  # those that were used last first
        latest, begun = self.latest, self.comparison.running_id
        loaded.sort(
            key=lambda it: (it is not latest, it.checkpoint_id != begun, it.checkpoint_id not in self.preferred)
        )
        due = (it for it in loaded if self.comparison.is_due(it.checkpoint_id, it.model))
        if (found := next(due, None)) is None:
            return
        exact = self.comparison.go_on(found.checkpoint_id, self._has_to_load)
        if exact is None:
            return
        replacing = replace(found, model=exact)
        with self._changed:
            if self.latest is found:
                self.latest = replacing
            if found.checkpoint_id in self._loaded:
                self._loaded[found.checkpoint_id] = replacing

    def _has_to_load(self) -> bool:
        return bool(self._stopped or self._wanted or time.monotonic() > self._look_again_at)

    def _serve_wanted(self) -> None:
        while not self._stopped:
            with self._changed:
                if not self._wanted:
                    return
                checkpoint, future = next(iter(self._wanted.values()))
            try:
                loaded, error = self._load(checkpoint), None
            except Exception as exc:
                loaded, error = None, exc
            with self._changed:
                self._wanted.pop(checkpoint.id, None)
            if loaded is not None:
                future.set_result(loaded)
            else:
                future.set_exception(error or ServiceError())
            if time.monotonic() > self._look_again_at:
                return  # however much is asked for, newer checkpoints are looked for

    def _follow_latest(self, *, load: bool = True) -> None:
        """Load the newest publication if it is newer than the one that serves; skip damaged ones."""
        while not self._stopped:
            try:
                self._forget_deleted()
                with self._database.reading() as session:
                    newest = get_latest(session, LOCAL_OWNER, skip=self.unusable)
            except NoCheckpoint:
                self._newer_is_known = False
                return
            except DatabaseUnavailable:
                return
            except Exception:
                log.exception("the newest checkpoint can't be looked up; trying again")
                return
            if self.latest is not None and (newest.publication or 0) <= (self.latest.publication or 0):
                return
            self._newer_is_known = True
            if not load:
                return
            try:
                self._load(newest)
                return
            except (CheckpointNotFound, CheckpointPruned):
                continue  # it is out of the database now: take the one before it
            except Exception:
                return

    def _forget_deleted(self) -> None:
        """Notice that another process deleted the job that serves as `latest`."""
        latest = self.latest
        if latest is None:
            return
        with self._database.reading() as session:
            is_there = session.scalar(select(Checkpoint.id).where(Checkpoint.id == latest.checkpoint_id)) is not None
        if not is_there:
            self.forget(latest.job_id)

    def _load(self, checkpoint: Checkpoint) -> Loaded:
        with self._changed:
            if (known := self._loaded.get(checkpoint.id)) is not None:
                return known
        failed_at, refusal = self._failed.get(checkpoint.id, (0.0, None))
        if refusal is not None and time.monotonic() - failed_at < TRY_AGAIN_S:
            raise refusal
        began = time.monotonic()
        try:
            model = self._read(checkpoint)
        except (CheckpointCorrupt, StoredFilesDamaged, FileNotFoundError) as exc:
            self._observer.loaded(time.monotonic() - began, LoadOutcome.DAMAGED)
            raise self._put_aside(checkpoint, exc) from exc
        except (
            OSError,
            StorageUnavailable,
        ) as exc:  # too many open files, say: the checkpoint may be whole, so the next try may succeed
            log.warning("a checkpoint can't be read now", extra={"checkpoint": checkpoint.id, "detail": str(exc)})
            self._observer.loaded(time.monotonic() - began, LoadOutcome.FAILED)
            raise ModelLoading from exc
        except core.CheckpointIncompatible as exc:
            self._observer.loaded(time.monotonic() - began, LoadOutcome.FAILED)
            log.warning("a checkpoint is of another version", extra={"checkpoint": checkpoint.id, "detail": str(exc)})
            raise self._pass_over(checkpoint.id, CheckpointIncompatible(param="model")) from exc
        except Exception as exc:
            self._observer.loaded(time.monotonic() - began, LoadOutcome.FAILED)
            log.exception("a checkpoint can't be loaded", extra={"checkpoint": checkpoint.id})
            raise self._pass_over(checkpoint.id, ServiceError()) from exc
        loaded = Loaded(
            checkpoint.id, checkpoint.owner, checkpoint.job_id, checkpoint.epoch, checkpoint.publication,
            checkpoint.weights_sha256, model, int(checkpoint.files.get(WEIGHTS, {}).get("size", 0)),
        )  # fmt: skip
        self._observer.loaded(time.monotonic() - began, LoadOutcome.LOADED)
        self._keep(loaded)
        return loaded

    def _pass_over(self, checkpoint_id: str, refusal: ServiceError) -> ServiceError:
        """Pass a checkpoint over as `latest`, and don't read it again for a while: each try takes as long as a load."""
        self.unusable |= {checkpoint_id}
        self._failed[checkpoint_id] = (time.monotonic(), refusal)
        while len(self._failed) > MAX_REMEMBERED:
            del self._failed[next(iter(self._failed))]
        return refusal

    def _read(self, checkpoint: Checkpoint) -> Model:
        with self._storage.materialise(checkpoint.key, without=STATE) as folder:
            if not has_its_manifest(folder, checkpoint.manifest_sha256):
                raise CheckpointCorrupt(f"{MANIFEST} is not the one that was committed")
            load = self._runtime.load_exactly if self.comparison.disagrees(checkpoint.id) else self._runtime.load
            return load(folder)

    def _put_aside(self, checkpoint: Checkpoint, exc: Exception) -> ServiceError:
        """Take a damaged or missing checkpoint out of use, unless it has been pruned.

        Returns:
            What a client is told.

        Raises:
            DatabaseUnavailable: nothing could be written; this process passes it over all the same.
        """
        try:
            if self._is_committed(checkpoint.id):
                detail = type(exc).__name__
                condition = set_aside_unless_whole(self._database, self._storage, checkpoint, detail)
                if condition is Condition.WHOLE:  # in the store; only what this process read was not
                    log.error("an undamaged checkpoint can't be loaded: %s", exc, extra={"checkpoint": checkpoint.id})
                    self.unusable |= {checkpoint.id}
        except DatabaseUnavailable:
            self.unusable |= {checkpoint.id}
            raise
        except (OSError, StorageUnavailable) as away:
            log.warning("a checkpoint can't be read now", extra={"checkpoint": checkpoint.id, "detail": str(away)})
            return ModelLoading()
        try:
            with self._database.reading() as session:
                get_checkpoint(session, checkpoint.owner, checkpoint.id)
        except ServiceError as refusal:
            return refusal
        return ServiceError()

    def _is_committed(self, checkpoint_id: str) -> bool:
        with self._database.reading() as session:
            status = session.scalar(select(Checkpoint.status).where(Checkpoint.id == checkpoint_id))
        return status == CheckpointStatus.COMMITTED.value

    def _keep(self, loaded: Loaded) -> None:
        newer = (loaded.publication or 0) > (self.latest.publication or 0 if self.latest else 0)
        becomes_latest = newer and self._is_newest(loaded)
        unloaded = []  # let go of at the end: to free their memory takes milliseconds, in which nobody may wait for it
        with self._changed:
            self._loaded[loaded.checkpoint_id] = loaded
            if becomes_latest:
                self.latest = loaded
            pinned = {loaded.checkpoint_id, self.latest.checkpoint_id if self.latest else ""}
            removable = [key for key in self._loaded if key not in pinned]
            for old in sorted(removable, key=lambda key: key in self.preferred):  # of each kind the oldest first
                held_bytes = sum(kept.weights_bytes for kept in self._loaded.values())
                if len(self._loaded) <= self._max_loaded and held_bytes <= self._max_bytes:
                    break
                unloaded.append(self._loaded.pop(old))
            self._tell_what_is_held()
        give_way(NICENESS)  # to the answers that are computed from now on

    def _tell_what_is_held(self) -> None:
        sizes = [loaded.weights_bytes for loaded in self._loaded.values()]
        self._observer.holds(len(sizes), sum(sizes))
        self._observer.serves(self.latest.publication or 0 if self.latest is not None else 0)

    def _is_newest(self, loaded: Loaded) -> bool:
        """Whether a checkpoint may become `latest`: an older one that was asked for by name must not."""
        try:
            with self._database.reading() as session:
                return get_latest(session, LOCAL_OWNER, skip=self.unusable).id == loaded.checkpoint_id
        except ServiceError:
            return True
