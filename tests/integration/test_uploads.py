"""Uploads to an API process that is killed, runs out of disk, or is spoken to by the public clients of tus."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tusclient.client import TusClient

from tests.integration.fleet import make_tables, wait_for
from tests.integration.test_full_disk import small_disk
from trainyard.launch.queue_server import free_port
from trainyard.settings import Settings, child_environment

pytestmark = pytest.mark.slow  # every test starts API processes
MIB = 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}
PATCH = TUS | {"Content-Type": "application/offset+octet-stream"}
JS_CLIENT = Path(__file__).parent / "tus_js_client"


class Api:
    """An API process without queue and workers, which can be killed and started again."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.settings = Settings(data_dir=data_dir, port=free_port(), **settings)
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        data_dir.mkdir(exist_ok=True)
        make_tables(self.settings)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "api", "--die-with-parent", str(os.getpid())]
        log = (self.settings.data_dir / "api.log").open("ab")
        process = subprocess.Popen(command, env=child_environment(self.settings), stdout=log, stderr=log)
        log.close()
        wait_for(lambda: self.is_up() or process.poll() is not None)
        return process

    def is_up(self) -> bool:
        try:
            return self.http.get("/healthz").is_success
        except httpx.HTTPError:
            return False

    def kill_and_restart(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        self.process = self._start()

    def stop(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait(20)

    def begin(self, size: int) -> str:
        response = self.http.post("/uploads", headers=TUS | {"Upload-Length": str(size)})
        assert response.status_code == 201, response.text
        return response.headers["location"]

    def offset(self, path: str) -> int:
        return int(self.http.head(path, headers=TUS).headers["upload-offset"])

    def offset_without_interrupting(self, path: str) -> int:
        return int(self.http.get(path).json()["offset_bytes"])

    def send(self, path: str, offset: int, data: bytes) -> httpx.Response:
        return self.http.patch(path, content=data, headers=PATCH | {"Upload-Offset": str(offset)})

    def wait_for_bytes(self, path: str, number: int) -> None:
        wait_for(lambda: self.size_on_disk(path) >= number)

    def size_on_disk(self, path: str) -> int:
        return (self.settings.data_dir / path.strip("/") / "content").stat().st_size


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    running: list[Api] = []

    def build(data_dir: Path | None = None, **settings: Any) -> Api:
        running.append(Api(data_dir or tmp_path / "data", **({"reaper_s": 1} | settings)))
        return running[-1]

    yield build
    for api in running:
        api.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One process for tests of clients that only upload to it."""
    api = Api(tmp_path_factory.mktemp("shared") / "data", reaper_s=1)
    yield api
    api.stop()


@contextmanager
def half_a_patch(api: Api, path: str, offset: int, data: bytes, announced: int) -> Iterator[socket.socket]:
    """A PATCH that announces more than it brings, and then says nothing."""
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {announced}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.settings.port), timeout=60) as client:
        client.sendall(head.encode() + data)
        yield client


@contextmanager
def sending_on(client: socket.socket) -> Iterator[None]:
    """A hundred bytes of the body ten times a second, inside the block."""
    enough = threading.Event()

    def send() -> None:
        while not enough.wait(0.1):
            client.sendall(b"x" * 100)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        enough.set()
        sender.join()


def test_an_api_that_is_killed_five_times_in_an_upload_loses_no_byte_that_it_named(start: Callable[..., Api]) -> None:
    api, drawn = start(), random.Random(5)
    data = drawn.randbytes(40 * MIB)
    path, told = api.begin(len(data)), 0
    for number in range(5):
        until = told + (len(data) - told) // 3
        with half_a_patch(api, path, told, data[told:until], len(data) - told):
            api.wait_for_bytes(path, until - 2 * MIB)
            if number % 2:
                time.sleep(2.5)  # more than the two seconds after which the offset is written
                with socket.create_connection(("127.0.0.1", api.settings.port)):
                    pass
            api.kill_and_restart()
        now = api.offset(path)
        assert now >= told
        told = now
    assert api.send(path, told, data[told:]).status_code == 204
    found = api.http.get(path).json()
    assert (found["state"], found["sha256"]) == ("whole", hashlib.sha256(data).hexdigest())
    assert api.size_on_disk(path) == len(data)


def test_the_offset_is_written_while_a_long_request_goes_on(start: Callable[..., Api]) -> None:
    """So that a kill costs seconds, and not the whole request."""
    api = start()
    path = api.begin(300 * MIB)
    with half_a_patch(api, path, 0, b"x" * (100 * MIB), 300 * MIB):
        wait_for(lambda: api.size_on_disk(path) >= 99 * MIB)
        api.kill_and_restart()
    assert api.offset(path) >= 64 * MIB


def test_twenty_clients_that_leave_can_all_go_on_and_what_they_give_up_is_swept(start: Callable[..., Api]) -> None:
    api = start(upload_expires_s=30)
    paths = [api.begin(4 * MIB) for _ in range(20)]
    for number, path in enumerate(paths):
        with half_a_patch(api, path, 0, b"x" * (number * 100_000), 4 * MIB):
            pass
    offsets = [api.offset(path) for path in paths]
    assert all(offset <= number * 100_000 for number, offset in enumerate(offsets))
    assert max(offsets) > 1_000_000  # the last bytes before a cut may be lost, and HEAD says so
    for path, offset in zip(paths[:10], offsets[:10], strict=True):
        assert api.send(path, offset, b"x" * (4 * MIB - offset)).status_code == 204
    assert len(api.http.get("/uploads").json()["data"]) == 20
    folder = api.settings.data_dir / "uploads"
    wait_for(lambda: [each.name for each in folder.iterdir()] == ["folder-id"])
    assert api.http.get("/uploads").json()["data"] == []


def test_what_was_stopped_by_sigterm_goes_on(start: Callable[..., Api]) -> None:
    api = start()
    path = api.begin(10 * MIB)
    with half_a_patch(api, path, 0, b"x" * (3 * MIB), 10 * MIB):
        wait_for(lambda: api.size_on_disk(path) >= 2 * MIB)
        api.process.send_signal(signal.SIGTERM)
        api.process.wait(40)
    api.process = api._start()
    assert api.offset(path) >= 2 * MIB
    offset = api.offset(path)
    assert api.send(path, offset, b"x" * (10 * MIB - offset)).status_code == 204


def test_two_processes_with_one_folder_take_turns(start: Callable[..., Api]) -> None:
    one = start()
    other = start(one.settings.data_dir)
    data = random.Random(1).randbytes(2 * MIB)
    path = one.begin(len(data))
    for api, at in ((one, 0), (other, MIB // 2), (one, MIB), (other, MIB + MIB // 2)):
        assert api.send(path, at, data[at : at + MIB // 2]).status_code == 204
    assert one.http.get(path).json()["sha256"] == hashlib.sha256(data).hexdigest()
    locked = one.begin(4 * MIB)
    with half_a_patch(one, locked, 0, b"x" * (2 * MIB), 4 * MIB) as client:
        one.wait_for_bytes(locked, MIB)
        with sending_on(client):
            response = other.send(locked, other.offset_without_interrupting(locked), b"x")
            assert (response.status_code, response.json()["error"]["code"]) == (423, "upload_locked")
            assert other.http.head(locked, headers=TUS).status_code == 423
        offset = other.offset(locked)  # its client sends no more: it is ended there, and what it brought is saved
        assert offset >= 2 * MIB
        assert offset == other.offset_without_interrupting(locked) == one.offset(locked)
    assert other.send(locked, offset, b"y" * (4 * MIB - offset)).status_code == 204
    whole = hashlib.sha256(b"x" * offset + b"y" * (4 * MIB - offset)).hexdigest()
    assert one.http.get(locked).json()["sha256"] == whole


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_keeps_what_fits_and_the_upload_goes_on_when_there_is_space(
    start: Callable[..., Api], tmp_path: Path
) -> None:
    api = start(tmp_path / "data", min_free_disk_bytes=0)
    folder = api.settings.data_dir / "uploads"
    with small_disk(folder, 8):
        data = random.Random(2).randbytes(16 * MIB)
        refused = api.http.post("/uploads", headers=TUS | {"Upload-Length": str(len(data))})
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
        deferred = api.http.post("/uploads", headers=TUS | {"Upload-Defer-Length": "1"})
        path = deferred.headers["location"]
        answer = api.send(path, 0, data)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        offset = api.offset(path)
        assert 7 * MIB < offset <= 8 * MIB
        whole = api.http.post("/uploads", headers=TUS | {"Upload-Length": "100"})
        assert whole.status_code == 507
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        rest = api.http.patch(
            path,
            content=data[offset:],
            headers=PATCH | {"Upload-Offset": str(offset), "Upload-Length": str(len(data))},
        )
        assert rest.status_code == 204, rest.text
        assert api.http.get(path).json()["sha256"] == hashlib.sha256(data).hexdigest()
        api.http.delete(path)


@pytest.fixture(scope="module")
def js_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `tus-js-client` is installed."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("js")
    for name in ("package.json", "package-lock.json", "upload.mjs"):
        shutil.copy(JS_CLIENT / name, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=180
    )
    if done.returncode:
        pytest.skip(f"tus-js-client can't be installed: {done.stderr[-200:]}")
    return folder


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_refuses_a_body_and_nothing_of_it_stays(start: Callable[..., Api], tmp_path: Path) -> None:
    api = start(tmp_path / "data", min_free_disk_bytes=0)
    folder = api.settings.data_dir / "uploads"
    with small_disk(folder, 8):
        for content in (b"x" * (16 * MIB), iter([b"x" * MIB] * 16)):
            headers = {"Content-Type": "application/zip"}
            refused = api.http.post("/datasets?name=x", content=content, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
            wait_for(lambda: [path.name for path in folder.iterdir() if path.name.startswith("upl_")] == [])
        taken = api.http.post("/datasets?name=x", content=b"x" * (4 * MIB), headers={"Content-Type": "application/zip"})
        assert taken.status_code == 202


class TestPublicClients:
    """Unchanged, as they come from their registries."""

    def test_tuspy_uploads_in_pieces_with_checksums(self, start: Callable[..., Api], tmp_path: Path) -> None:
        api = start(admin_key="k" * 20)
        file = tmp_path / "flowers.zip"
        file.write_bytes(random.Random(3).randbytes(5 * MIB + 17))
        client = TusClient(f"{api.url}/uploads", headers={"Authorization": f"Bearer {'k' * 20}"})
        options: dict[str, Any] = {"chunk_size": MIB, "upload_checksum": True}
        with file.open("rb") as stream:
            uploader = client.uploader(file_stream=stream, metadata={"filename": "flowers.zip"}, **options)
            for _ in range(3):
                uploader.upload_chunk()
            again = client.uploader(file_stream=stream, url=uploader.url, **options)
            assert again.offset == 3 * MIB
            again.upload()
        found = self._look(api, uploader.url, {"Authorization": f"Bearer {'k' * 20}"})
        assert (found["name"], found["state"]) == ("flowers.zip", "whole")
        assert found["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()

    def test_tuspy_goes_on_after_the_api_was_killed(self, start: Callable[..., Api], tmp_path: Path) -> None:
        api = start()
        file = tmp_path / "flowers.zip"
        file.write_bytes(random.Random(4).randbytes(6 * MIB))
        with file.open("rb") as stream:
            client = TusClient(f"{api.url}/uploads")
            uploader = client.uploader(file_stream=stream, chunk_size=MIB, retries=5, retry_delay=1)
            for number in range(6):
                if number == 3:
                    api.kill_and_restart()
                uploader.upload_chunk()
        assert self._look(api, uploader.url)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"chunkSize": MIB},
            {"chunkSize": MIB, "uploadDataDuringCreation": True},
            {"chunkSize": MIB, "overridePatchMethod": True},
        ],
        ids=["at-once", "in-pieces", "with-creation", "post-for-patch"],
    )
    def test_tus_js_client_uploads(self, js_client: Path, shared: Api, tmp_path: Path, options: dict[str, Any]) -> None:
        api, file = shared, tmp_path / "flowers.zip"
        file.write_bytes(random.Random(6).randbytes(5 * MIB + 3))
        url = self._run_js(js_client, api, file, options)
        found = self._look(api, url)
        assert (found["name"], found["state"]) == ("flowers.zip", "whole")
        assert found["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()

    def test_tus_js_client_goes_on_where_it_was_aborted(self, js_client: Path, shared: Api, tmp_path: Path) -> None:
        api, file = shared, tmp_path / "flowers.zip"
        file.write_bytes(random.Random(7).randbytes(20 * MIB))
        url = self._run_js(js_client, api, file, {"chunkSize": MIB, "abortAt": 5 * MIB})
        assert 4 * MIB <= api.offset(httpx.URL(url).path) < 20 * MIB
        assert self._run_js(js_client, api, file, {"uploadUrl": url}) == url
        assert self._look(api, url)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()

    def test_tus_js_client_gives_an_upload_up(self, js_client: Path, shared: Api, tmp_path: Path) -> None:
        api, file = shared, tmp_path / "flowers.zip"
        file.write_bytes(random.Random(8).randbytes(20 * MIB))
        url = self._run_js(js_client, api, file, {"chunkSize": MIB, "abortAt": 5 * MIB, "terminate": True})
        assert api.http.get(httpx.URL(url).path).status_code == 404

    @staticmethod
    def _run_js(folder: Path, api: Api, file: Path, options: dict[str, Any]) -> str:
        command = ["node", "upload.mjs", f"{api.url}/uploads", str(file), json.dumps(options)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @staticmethod
    def _look(api: Api, url: str | None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        assert url is not None
        found: dict[str, Any] = api.http.get(httpx.URL(url).path, headers=headers).json()
        return found
