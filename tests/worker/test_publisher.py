"""Checkpoints on their way into a store that takes its time: their order, what waits, and what is let go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from alexnet_core.layout import CheckpointKind
from alexnet_core.messages import CheckpointSaved
from trainyard.errors import StorageUnavailable
from trainyard.storage.interface import Storage
from worker.publisher import Publisher


class SlowStore:
    """Takes a folder once it is let."""

    publishes_at_once = False

    def __init__(self) -> None:
        self.may_go, self.taken, self.refusals = threading.Event(), list[str](), 0

    def publish(self, folder: Path, key: str, **_: object) -> None:
        assert self.may_go.wait(20)
        if self.refusals:
            self.refusals -= 1
            raise StorageUnavailable("not now")
        assert (folder / "manifest.json").exists()
        self.taken.append(folder.name)


def saved(root: Path, step: int, kind: CheckpointKind = CheckpointKind.EPOCH, *, is_best: bool = False) -> Any:
    path = root / f"{kind}-{step:08d}-e1"
    path.mkdir()
    (path / "manifest.json").write_text("{}")
    return CheckpointSaved(
        kind=kind, path=path, epoch=step, step=step, files={}, size_bytes=1, weights_sha256="a", manifest_sha256="b",
        is_best=is_best,
    )  # fmt: skip


def wait_until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_waits_is_bounded_by_what_would_be_kept(tmp_path: Path) -> None:
    store = SlowStore()
    publisher = Publisher(cast(Storage, store), "job_1", keep_latest=2)
    publisher.submit(saved(tmp_path, 1))
    wait_until(lambda: publisher._now is not None)  # on its way already: it goes on
    for step in range(2, 8):
        publisher.submit(saved(tmp_path, step, is_best=step == 3))
        publisher.submit(saved(tmp_path, step * 10, CheckpointKind.RECOVERY))
    assert publisher.is_busy
    left = {"epoch-00000001-e1", "epoch-00000003-e1", "epoch-00000006-e1", "epoch-00000007-e1", "recovery-00000070-e1"}
    assert {path.name for path in tmp_path.iterdir()} == left
    store.may_go.set()
    wait_until(lambda: set(store.taken) == left)
    assert [name for name in store.taken if name.startswith("epoch")] == sorted(left)[:4], "in their order"
    reports: list[CheckpointSaved] = []

    def has_taken_five() -> bool:
        reports.extend(publisher.take())
        return len(reports) == 5

    wait_until(has_taken_five)
    assert not publisher.is_busy
    wait_until(lambda: [path.name for path in tmp_path.iterdir()] == ["epoch-00000003-e1"])  # read again at the end
    publisher.stop()


def test_a_store_that_refuses_is_tried_until_it_takes_the_checkpoint(tmp_path: Path) -> None:
    store = SlowStore()
    store.may_go.set()
    store.refusals = 2
    publisher = Publisher(cast(Storage, store), "job_1", keep_latest=2)
    publisher.submit(saved(tmp_path, 1))
    assert publisher.take() == []
    wait_until(lambda: store.taken == ["epoch-00000001-e1"])
    publisher.stop()


def test_nothing_is_published_after_the_lease_was_lost(tmp_path: Path) -> None:
    store = SlowStore()
    store.may_go.set()
    store.refusals = 10**6
    publisher = Publisher(cast(Storage, store), "job_1", keep_latest=2)
    publisher.submit(saved(tmp_path, 1))
    publisher.submit(saved(tmp_path, 2))
    publisher.stop()
    store.refusals = 0
    assert (store.taken, publisher.take()) == ([], [])
