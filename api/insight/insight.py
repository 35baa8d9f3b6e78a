"""What routes ask for insight: answers of the child process about a checkpoint, and results of passes over a split."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from alexnet_core.insight.methods import PassKind, Split
from alexnet_core.insight.protocol import Answer, GoOn, Request
from alexnet_core.layout import STATE
from api.downloads.stored_packs import StoredPack
from api.insight.child_process import ChildEnded, InsightProcess
from api.insight.insight_thread import InsightThread
from api.insight.refusals import explain_end, is_damage, refuse
from api.insight.results import Draft, ResultKey, Results
from api.thread_count import choose_threads
from trainyard.artifacts.checkpoints import has_its_manifest
from trainyard.artifacts.examination import Condition, set_aside_unless_whole
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.errors import CheckpointNotFound, ServiceError, StorageUnavailable
from trainyard.insight_errors import InsightInProgress
from trainyard.settings import Settings
from trainyard.states import CheckpointStatus
from trainyard.storage.interface import Storage, StoredFilesDamaged

log = logging.getLogger(__name__)

LIMIT_S = 120.0  #: of a request's computation; the first one loads torch and the checkpoint, too
STEP_S = 0.5  #: of a pass: so long do other requests wait for it
WAIT_S = 8.0  #: that a request waits for a pass to end, before it is told to ask again
_AGAIN_S = 0.5  #: after which it is tried again what another process is doing
_FAILED_FOR_S = 30.0  #: a failure is told again before the pass is begun anew
_SWEEP_EVERY_S = 600.0


@dataclass(frozen=True)
class Opened:
    """The local folders that a request is about."""

    checkpoint: Path
    manifest_sha256: str
    pack: Path = Path()  #: only where the request needs one


@dataclass
class _Pass:
    """A pass that is being made, or has failed."""

    ended: asyncio.Future[Path]
    draft: Draft | None = None
    done: int = 0
    total: int = 0
    began_at: float = field(default_factory=time.monotonic)
    failed_at: float | None = None


class Insight:
    """All insight of an API process. Its coroutines belong to one event loop."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self._database, self._storage = database, storage
        self.results = Results(settings.data_dir, max_bytes=settings.insight_cache_bytes)
        threads = choose_threads(settings.serving_threads)
        process = InsightProcess(
            memory_bytes=settings.insight_memory_bytes, max_pixels=settings.max_image_pixels, threads=threads
        )
        self._thread = InsightThread(process)
        self._passes: dict[ResultKey, _Pass] = {}

    def start(self) -> None:
        """Sweep from time to time what was kept. The child is started when it is needed."""
        self._thread.repeat(self._sweep)

    def close(self) -> None:
        """End the thread and the child."""
        self._thread.close()

    async def ask(
        self,
        checkpoint: Checkpoint,
        build: Callable[[Opened], Request],
        blob: bytes = b"",
        *,
        pack: StoredPack | None = None,
    ) -> tuple[Answer, bytes]:
        """Return the child's answer about a checkpoint.

        Args:
            checkpoint: which nobody removes meanwhile.
            build: makes the request.
            blob: an image.
            pack: of a dataset that the request needs, too.

        Raises:
            ServiceError: what is wrong.
        """

        def work(process: InsightProcess) -> tuple[Answer, bytes]:
            with self._open(checkpoint, pack) as opened:
                return self._ask(process, checkpoint, build(opened), blob, LIMIT_S)

        return await self._thread.run(work)

    async def need(self, checkpoint: Checkpoint, pack: StoredPack, kind: PassKind, split: Split) -> Path:
        """Return the folder with the result of a pass, which is made now if it is not there.

        Raises:
            InsightInProgress: that takes longer than a request may wait.
            ServiceError: it failed.
        """
        key = ResultKey(checkpoint.id, kind, split)
        if (folder := await asyncio.to_thread(self.results.find, key)) is not None:
            return folder
        made = self._passes.get(key)
        if made is not None and made.failed_at is not None and time.monotonic() - made.failed_at > _FAILED_FOR_S:
            made = None
        if made is None or (made.ended.done() and made.failed_at is None):  # ended well: the result was removed since
            made = self._passes[key] = self._begin(key, checkpoint, pack)
        try:
            return await asyncio.wait_for(asyncio.shield(made.ended), WAIT_S)
        except TimeoutError:
            raise self._describe(made) from None

    def forget(self, checkpoint: Checkpoint, kind: PassKind, split: Split) -> None:
        """Remove a result that can't be read: the next request lets it be made again. It works on the disk."""
        log.warning("a result could not be read; it is made again", extra={"checkpoint": checkpoint.id, "kind": kind})
        self.results.forget(ResultKey(checkpoint.id, kind, split))

    def _begin(self, key: ResultKey, checkpoint: Checkpoint, pack: StoredPack) -> _Pass:
        loop = asyncio.get_running_loop()
        made = _Pass(loop.create_future())
        made.ended.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may be that nobody waits

        def end(outcome: Path | Exception) -> None:
            if made.ended.done():
                return
            if isinstance(outcome, Exception):
                made.failed_at = time.monotonic()
                made.ended.set_exception(outcome)
                loop.call_later(_FAILED_FOR_S, self._drop, key, made)
            else:
                made.ended.set_result(outcome)
                self._passes.pop(key, None)

        def step(process: InsightProcess) -> float | None:
            try:
                wait_s, folder = self._step(process, key, made, checkpoint, pack)
            except Exception as exc:
                if made.draft is not None:
                    made.draft.abandon()
                if not isinstance(exc, ServiceError):
                    log.exception("a pass over a split failed", extra={"checkpoint": checkpoint.id})
                loop.call_soon_threadsafe(end, exc if isinstance(exc, ServiceError) else ServiceError())
                return None
            if folder is None:
                return wait_s
            loop.call_soon_threadsafe(end, folder)
            return None

        self._thread.repeat(step)
        return made

    def _drop(self, key: ResultKey, made: _Pass) -> None:
        if self._passes.get(key) is made:
            del self._passes[key]

    def _step(
        self, process: InsightProcess, key: ResultKey, made: _Pass, checkpoint: Checkpoint, pack: StoredPack
    ) -> tuple[float, Path | None]:
        """Do a step of a pass. Returns seconds until the next one, and the result once there is one."""
        if made.draft is None:
            made.draft = self.results.begin(key)
            if (folder := self.results.find(key)) is not None:  # another process has just made it
                if made.draft is not None:
                    made.draft.abandon()
                return 0, folder
            if made.draft is None:
                return _AGAIN_S, None
        with self._open(checkpoint, pack) as opened:
            request = GoOn(
                **vars(opened), kind=key.kind, split=key.split, draft=made.draft.path, done=made.done, seconds=STEP_S
            )
            answer, _ = self._ask(process, checkpoint, request, b"", LIMIT_S)
        made.done, made.total = answer.done, answer.total
        return (0, made.draft.publish()) if made.done >= made.total else (0, None)

    def _describe(self, made: _Pass) -> InsightInProgress:
        if not made.total:
            return InsightInProgress("it is about to be computed: ask again in a moment", retry_after_s=2)
        took_s = time.monotonic() - made.began_at
        left_s = took_s * (made.total - made.done) / max(1, made.done)
        return InsightInProgress(
            f"{made.done:,} of {made.total:,} images are done, which happens once for each checkpoint: ask again "
            f"in about {left_s:.0f} s",
            retry_after_s=max(1, min(60, round(left_s))),
        )

    def _ask(
        self, process: InsightProcess, checkpoint: Checkpoint, request: Request, blob: bytes, limit_s: float
    ) -> tuple[Answer, bytes]:
        try:
            answer, picture = process.ask(request, blob, limit_s=limit_s)
        except ChildEnded as exc:
            raise explain_end(exc) from exc
        except OSError as exc:
            raise explain_end(None) from exc
        if is_damage(answer):
            raise self._put_aside(checkpoint, answer.message)
        if answer.code:
            raise refuse(answer)
        return answer, picture

    @contextlib.contextmanager
    def _open(self, checkpoint: Checkpoint, pack: StoredPack | None) -> Iterator[Opened]:
        """Yield the folders of a checkpoint and of a dataset, which nobody removes while the block runs."""
        with contextlib.ExitStack() as opened:
            try:
                folder = opened.enter_context(self._storage.materialise(checkpoint.key, without=STATE))
                is_whole = has_its_manifest(folder, checkpoint.manifest_sha256)
            except (StoredFilesDamaged, FileNotFoundError) as exc:
                raise self._put_aside(checkpoint, str(exc)) from exc
            except OSError as exc:
                raise StorageUnavailable(
                    f"checkpoint {checkpoint.id} can't be read now: try again in a moment"
                ) from exc
            if not is_whole:
                raise self._put_aside(checkpoint, "its manifest is not the one that was committed")
            images = Path() if pack is None else opened.enter_context(pack.open(self._storage)).path
            yield Opened(folder, checkpoint.manifest_sha256, images)

    def _put_aside(self, checkpoint: Checkpoint, detail: str) -> ServiceError:
        """Take a damaged or missing checkpoint out of use, unless it is whole after all.

        Returns:
            What a client is told.
        """
        try:
            condition = set_aside_unless_whole(self._database, self._storage, checkpoint, detail)
        except OSError:
            condition = Condition.WHOLE
        if condition is Condition.WHOLE:
            return StorageUnavailable(f"checkpoint {checkpoint.id} could not be read: try again in a moment")
        return CheckpointNotFound(
            f"checkpoint {checkpoint.id} is {condition} in the store and can't be used: use another one of job "
            f"{checkpoint.job_id}",
            param="model",
        )

    def _sweep(self, _: InsightProcess) -> float:
        """Remove results that are no longer needed. Returns the seconds until the next time."""
        try:
            self.results.sweep(self._select_existing)
        except (OSError, ServiceError):
            log.warning("results of insight could not be swept", exc_info=True)
        return _SWEEP_EVERY_S

    def _select_existing(self, ids: Iterable[str]) -> set[str]:
        wanted = list(ids)
        with self._database.reading() as session:
            query = select(Checkpoint.id).where(
                Checkpoint.id.in_(wanted), Checkpoint.status == CheckpointStatus.COMMITTED
            )
            return set(session.scalars(query))
