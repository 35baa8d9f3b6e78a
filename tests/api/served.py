"""The app on a real HTTP server in a thread, a runtime without torch, and database with a checkpoint in them."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image

from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible
from alexnet_core.layout import CheckpointKind
from api.http.server import TAKEN_WITHIN_S, Server, build_door
from api.observability.metrics import Metrics
from api.serving.batching import Rows
from api.serving.runtime import go_on
from trainyard.artifacts import datasets
from trainyard.artifacts.checkpoint_commits import NewCheckpoint, commit_checkpoint
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling import leases
from trainyard.settings import Settings

FILES = ("weights.safetensors", "config.json", "classes.json", "preprocessing.json", "metadata.json")


class FakeModel:
    """Has three classes; the brighter the image, the more probable the first, unless its manifest says otherwise."""

    class_names = ("bright", "dark", "never")

    def __init__(self, runtime: FakeRuntime, manifest: str) -> None:
        self._runtime, self._manifest = runtime, manifest

    input_shape = (3, 8, 8)

    def take_input(self, values_CHW: Any) -> float:
        return float(values_CHW.mean())

    precision = "fp32"

    def preprocess(self, image: Any) -> float:
        return float(np.asarray(image).mean()) / 255

    def compute(self, inputs: list[float]) -> Rows:
        self._runtime.batches.append(len(inputs))
        if self._runtime.gate is not None:
            assert self._runtime.gate.wait(60)
        if "failing" in self._manifest:
            raise RuntimeError("it can't compute")
        if "numberless" in self._manifest:
            return Rows([[float("nan")] * 3 for _ in inputs], [float("nan")] * len(inputs))
        if "inverted" in self._manifest:
            inputs = [1 - value for value in inputs]
        return Rows([[value, 1 - value, 0.0] for value in inputs], [10 * value for value in inputs])


class FakeRuntime:
    """Loads any folder that has a manifest whose text does not say `damaged`."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.batches: list[int] = []
        self.gate: threading.Event | None = None
        self.load_gate: threading.Event | None = None
        self.trouble: OSError | None = None

    def start(self, pause: Callable[[], object] = go_on) -> None:
        pass

    def load_exactly(self, folder: Path) -> FakeModel:
        return self.load(folder)

    def load(self, folder: Path) -> FakeModel:
        self.loads.append(folder.name)
        if self.load_gate is not None:
            assert self.load_gate.wait(60)
        if self.trouble is not None:
            raise self.trouble
        manifest = (folder / "manifest.json").read_text()
        if "of tomorrow" in (folder / "config.json").read_text():
            raise CheckpointIncompatible("format 99")
        if "damaged" in manifest:
            raise CheckpointCorrupt("weights.safetensors does not match its sha256")
        return FakeModel(self, manifest)


def read_member(archive: tarfile.TarFile, name: str) -> bytes:
    """A file in an archive, which holds one of this name."""
    file = archive.extractfile(name)
    assert file is not None, f"{name} is no file"
    return file.read()


class Served:
    """A running server and a client for it."""

    def __init__(
        self,
        app: FastAPI,
        database: Database,
        settings: Settings,
        *,
        taken_within_s: float = TAKEN_WITHIN_S,
        **door: Any,
    ) -> None:
        self.app, self.database, self.settings = app, database, settings
        config = uvicorn.Config(app, port=0, log_config=None, access_log=False, server_header=False, ws="none")
        self.door = replace(build_door(settings, app.state.gate, app.state.limiter, app.state.answerer), **door)
        self._server = Server(config, app, self.door, taken_within_s=taken_within_s)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive())
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        # `verify`: it speaks no TLS, and to read the certificates for it takes longer than all else here.
        self.http = httpx.Client(base_url=self.url, timeout=20, trust_env=False, verify=False)

    @property
    def connections(self) -> list[Any]:
        """The server's side of what is connected."""
        return list(self._server.server_state.connections)

    @property
    def metrics(self) -> Metrics:
        """What the app counts with."""
        metrics: Metrics = self.app.state.services.metrics
        return metrics

    @property
    def has_stopped(self) -> bool:
        return not self._thread.is_alive()

    def tell_to_stop(self) -> None:
        """What SIGTERM does."""
        self._server.handle_exit(signal.SIGTERM, None)

    def stop(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(timeout=20)

    def add_job(self) -> str:
        """A job that a worker has claimed."""
        with self.database.writing() as session:
            dataset = datasets.get_dataset(session, "local", "digits")
            new = NewJob(recipe="quick", config={"epochs": 3}, seed=1, max_failures=3)
            job = jobs.submit(session, "local", dataset, new)
            claimed = leases.claim(session, "wrk_test", 60)
            assert claimed is not None
            assert claimed[0].id == job.id
            return job.id

    def add_checkpoint(
        self,
        job_id: str,
        epoch: int,
        *,
        damaged: bool = False,
        files: dict[str, bytes] | None = None,
        manifest: bytes | None = None,
        nature: str = "plain",
        keep_latest: int = 2,
        val_loss: float = float("nan"),
    ) -> Checkpoint:
        """An epoch checkpoint, in the storage and in the database; its nature is what `FakeModel` makes of it."""
        key = f"checkpoints/{job_id}/epoch-{epoch:08d}-e1"
        folder = self.settings.data_dir / key
        folder.mkdir(parents=True)
        content = files or {name: f"{name} of {epoch}".encode() * 100 for name in FILES}
        listed = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in content.items()
        }
        manifest = (
            manifest
            or json.dumps(
                {"format_version": 1, "files": listed, "damaged" if damaged else "state_files": {}, "nature": nature}
            ).encode()
        )
        for name, data in (content | {"manifest.json": manifest}).items():
            (folder / name).write_bytes(data)
        if damaged:
            (folder / "weights.safetensors").write_bytes(b"other bytes")
        new = NewCheckpoint(
            kind=CheckpointKind.EPOCH,
            key=key,
            epoch=epoch,
            step=10 * epoch,
            metrics={"val_top1": 0.5, "val_loss": val_loss},
            files=listed,
            size_bytes=sum(map(len, content.values())),
            weights_sha256="a" * 64,
            manifest_sha256=sha256(manifest),
            is_best=True,
        )
        with self.database.writing() as session:
            lease = leases.Lease(job_id, 1, "wrk_test")
            return session.get_one(Checkpoint, commit_checkpoint(session, lease, new, keep_latest=keep_latest).id)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wait_until(condition: Any, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def png(value: int = 255, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def error_of(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of a response, which must have the one shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"type", "code", "message", "param", "request_id"}
    assert error["code"] == code, error
    assert error["message"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    return error
