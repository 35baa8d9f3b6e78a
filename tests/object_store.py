"""An object store of this machine as a process of its own, that can be frozen and killed; and one that has faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alexnet_core.child_processes import die_with_parent
from trainyard.launch.queue_server import free_port
from trainyard.settings import Settings

BUCKET = "yard"
#: Nothing may leave this machine: no role of a cloud is asked for, and no file of the developer's is read.
AWS = {
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "test-access", "AWS_SECRET_ACCESS_KEY": "test-secret",
}  # fmt: skip


@contextmanager
def serving() -> Iterator[ObjectServer]:
    """Inside, a server with an empty bucket runs, and this process may use it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS.items():
            patch.setenv(name, value)
        server = ObjectServer()
        server.start()
        try:
            server.make_bucket()
            yield server
        finally:
            server.stop()


class ObjectServer:
    """A server of moto on 127.0.0.1. It keeps its objects in memory: a killed one comes back empty."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it can be used."""
        self.launch()
        _wait_until(lambda: self._is_ready() or self._process is None or self._process.poll() is not None)
        assert self._process is not None
        assert self._process.poll() is None, "the store did not start"

    def launch(self) -> None:
        """Start it, and do not wait."""
        parent = os.getpid()
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ) | AWS,
            preexec_fn=lambda: die_with_parent(parent),
        )  # fmt: skip

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def _is_ready(self) -> bool:
        return _answers(f"{self.url}/moto-api/")

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.wake()
            self._process.kill()
            self._process.wait()

    def make_bucket(self) -> None:
        connect(self.settings(Path("/nowhere"))).mkdir(BUCKET)

    def settings(self, folder: Path, **more: Any) -> Settings:
        return Settings(
            data_dir=folder, storage_url=f"s3://{BUCKET}/one", storage_endpoint=self.url,
            storage_access_key="test-access", storage_secret_key="test-secret", storage_region="eu-central-1", **more,
        )  # fmt: skip

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class DurableObjectServer(ObjectServer):
    """A SeaweedFS on 127.0.0.1, which keeps its objects in a folder: a killed one comes back with them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        folder.mkdir()
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
        self._ports = {name: free_port() for name in (*names, "s3.port.grpc")}
        who = {"accessKey": AWS["AWS_ACCESS_KEY_ID"], "secretKey": AWS["AWS_SECRET_ACCESS_KEY"]}
        identity = {"name": "test", "credentials": [who], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    def _command(self) -> list[str]:
        weed = Path(sys.executable).parent / "weed"
        options = self._ports | {
            "dir": self._folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.port": self.port, "s3.port.iceberg": 0,
            "s3.port.lance": 0, "s3.config": self._folder / "s3.json", "master.volumeSizeLimitMB": 64,
            "volume.max": 0, "master.telemetry.url": "http://127.0.0.1:9",
        }  # fmt: skip
        switches = ["-filer", "-s3", "-master.telemetry=false"]
        return [str(weed), "server", *switches, *(f"-{name}={value}" for name, value in options.items())]

    def _is_ready(self) -> bool:
        """Whether it takes an object: it answers before its volumes are there."""
        try:
            files = connect(self.settings(self._folder))
            if not files.exists(BUCKET):
                files.mkdir(BUCKET)
            files.pipe_file(f"{BUCKET}/probe", b"1")
        except Exception:  # whatever the client raises: it is not there yet
            return False
        return True

    def make_bucket(self) -> None:
        """It is made when the server starts."""

    def kill(self) -> None:
        """End it as a crash does; `start` brings it back."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


def connect(settings: Settings) -> Any:
    """The filesystem of these settings."""
    from trainyard.storage import opening

    return opening._connect(settings)


class FaultyFilesystem:
    """Passes calls on, but for those that a test wants otherwise: `faults` are used up one a call."""

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem
        self.faults: list[Callable[[Callable[[], Any]], Any]] = []
        self.calls: list[str] = []
        self.before: Callable[[str, tuple[Any, ...]], None] = lambda name, args: None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            self.before(name, args)

            def really() -> Any:
                return getattr(self._filesystem, name)(*args, **kwargs)

            return self.faults.pop(0)(really) if self.faults else really()

        return call


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError as exc:
        exc.close()
        return True
    except OSError:
        return False
    return True


def _wait_until(look: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
