"""Prepares a dataset's pack in a child process, so that a crash there does not affect the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alexnet_core.layout import PACK_FACTS
from trainyard.artifacts.datasets import mark_ready
from trainyard.database.connection import Database
from trainyard.database.tables import Dataset
from trainyard.settings import Settings
from trainyard.storage.interface import Storage
from worker.children import scrubbed_environment, yield_to_others
from worker.waiting import run_beside


class PreparationFailed(Exception):
    """The dataset could not be prepared."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def has_pack(storage: Storage, dataset: Dataset) -> bool:
    """Whether a dataset's pack is recorded in the database and is in the store."""
    return dataset.digest is not None and storage.exists(dataset.key, PACK_FACTS)


def prepare_builtin(
    settings: Settings,
    database: Database,
    storage: Storage,
    dataset: Dataset,
    *,
    while_waiting: Callable[[], None] = lambda: None,
) -> str:
    """Make the pack of a built-in dataset and record in the database that it is ready.

    Args:
        settings: say where the sources are.
        database: gets the facts and the digest.
        storage: gets the pack.
        dataset: the built-in one.
        while_waiting: called every tick; what it raises ends the preparation.

    Returns:
        The pack's digest.

    Raises:
        PreparationFailed: with the core's error code.
        DatabaseUnavailable: the pack stands, the database does not know it yet.
        StorageUnavailable: the pack could not be published.
    """
    writer = f"prepare-{os.getpid()}-{threading.get_ident()}"
    folder = storage.place(dataset.key, writer)
    try:
        pack = prepare(settings, dataset.name, folder, while_waiting=while_waiting)
        size = sum(file.stat().st_size for file in folder.iterdir())
        if storage.publishes_at_once:
            storage.publish(folder, dataset.key)
        else:
            work = lambda: storage.publish(folder, dataset.key)  # noqa: E731
            run_beside(work, while_waiting=while_waiting, tick_s=settings.tick_s)
    finally:
        storage.clear(dataset.key, writer)
    facts = dataset.facts | {key: pack[key] for key in dataset.facts if key in pack}
    with database.writing() as session:
        mark_ready(session, dataset.id, digest=pack["digest"], facts=facts, size_bytes=size)
    return str(pack["digest"])


def prepare(settings: Settings, name: str, target: Path, *, while_waiting: Callable[[], None]) -> dict[str, Any]:
    """Make the pack of a built-in dataset.

    Args:
        settings: say where the sources are.
        name: of the built-in dataset.
        target: the pack's folder; whoever makes it first wins, and the content is the same.
        while_waiting: called every tick; what it raises ends the preparation.

    Returns:
        The content of `pack.json`.

    Raises:
        PreparationFailed: with the core's error code.
    """
    command = [sys.executable, "-m", "alexnet_core", "prepare", "--dataset", name, "--target", str(target)]
    command += ["--parent-pid", str(os.getpid())]
    if settings.datasets_dir is not None and (settings.datasets_dir / name).exists():
        command += ["--source", str(settings.datasets_dir / name)]
    target.parent.mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=scrubbed_environment(threads=1),
        start_new_session=True,
    )
    yield_to_others(child.pid)
    try:
        while True:
            try:
                output, errors = child.communicate(timeout=settings.tick_s)
                break
            except subprocess.TimeoutExpired:
                while_waiting()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    return _read_answer(child.returncode, output, errors)


def _read_answer(status: int, output: str, errors: str) -> dict[str, Any]:
    last_line = (output.strip().splitlines() or [""])[-1]
    try:
        answer: dict[str, Any] = json.loads(last_line)
    except ValueError:
        detail = (errors.strip().splitlines() or ["no output"])[-1]
        raise PreparationFailed("preparation_failed", f"the preparation ended with status {status}: {detail}") from None
    if "error" in answer:
        raise PreparationFailed(answer["error"]["code"], answer["error"]["message"])
    return answer
