"""Files that cost gigabytes or minutes to decode: what they may cost the API, and another client's prediction."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.served import error_of, png, wait_until
from tests.hostile_images import REFUSED, TAKEN, Make, made, webp_without_loss

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc"),
]

ROOT = Path(__file__).parents[3]
SIDE_PX = 10_000
MAX_GROWTH_BYTES = 150_000_000
MAX_GROWTH_OF_ANY_BYTES = 300_000_000
MAX_WAIT_S = 1.0
AT_ONCE = 16
HOSTILE_CLIENTS = 4


def hundred_megapixels() -> bytes:
    """A whole and correct PNG of 10,000 x 10,000 white pixels: 300 MB, in 300 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + b"\xff" * (3 * SIDE_PX)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(row) for _ in range(SIDE_PX)) + packer.flush()
    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def saved_as(file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (SIDE_PX, SIDE_PX), 255).save(buffer, file_format, **options)
    return buffer.getvalue()


class Server:
    """The app in a child process."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.api.served_alone", str(folder)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{int(self._process.stdout.readline())}", timeout=300, trust_env=False
        )

    def peak_bytes(self) -> int:
        """The child's highest resident memory since this was asked before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def children_bytes(self) -> int:
        """The resident memory of the child's own children just now."""
        pids = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").parent.parent.glob("*/children")
        children = [pid for path in pids for pid in path.read_text().split()]
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in children]
        return sum(1024 * int(kb) for status in statuses for kb in re.findall(r"VmRSS:\s*(\d+) kB", status))

    def post(self, content: bytes) -> httpx.Response:
        return self.http.post("/predict", content=content, headers={"Content-Type": "image/png"})

    def stop(self) -> None:
        self.http.close()
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("served"))
    yield running
    running.stop()


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_hundred_megapixels_are_refused_without_the_memory_for_them(server: Server, at_once: int) -> None:
    content = hundred_megapixels()
    assert len(content) < 2_000_000, "it is the pixels that are refused, not the bytes"
    server.peak_bytes()
    before = server.peak_bytes()
    with ThreadPoolExecutor(at_once) as pool:
        for response in pool.map(server.post, [content] * at_once):
            message = error_of(response, 413, "image_too_large")["message"]
            assert message == "The image has more than 25,000,000 pixels. Scale it down."
    growth_bytes = server.peak_bytes() - before
    print(f"{at_once} at once: {growth_bytes / 1e6:.1f} MB")
    assert growth_bytes < MAX_GROWTH_BYTES
    assert server.post(png()).status_code == 200


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {}),
        ("GIF", {}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("WEBP", {"lossless": True, "quality": 0, "method": 0}),
    ],
)
def test_no_other_format_costs_memory_either(server: Server, file_format: str, options: dict[str, Any]) -> None:
    content = saved_as(file_format, **options)
    server.peak_bytes()
    before = server.peak_bytes()
    error_of(server.post(content), 413, "image_too_large")
    growth_bytes = server.peak_bytes() - before
    print(f"{file_format}: {growth_bytes / 1e6:.1f} MB")
    assert growth_bytes < MAX_GROWTH_BYTES


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_largest_image_that_is_taken_costs_few_bytes_a_pixel(server: Server, mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (5000, 4990)).save(buffer, "PNG")
    server.peak_bytes()
    before = server.peak_bytes()
    assert server.post(buffer.getvalue()).status_code == 200
    growth_bytes = server.peak_bytes() - before
    print(f"{mode}: {growth_bytes / 1e6:.1f} MB")
    assert growth_bytes < 24 * 5000 * 4990


class OtherClient:
    """Asks for a small image again and again, over a connection of its own, and knows its longest wait."""

    def __init__(self, server: Server) -> None:
        self.longest_s, self.answers = 0.0, 0
        self._url = server.http.base_url
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> OtherClient:
        self._thread.start()
        wait_until(lambda: self.answers > 0)
        self.longest_s = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120, trust_env=False) as http:
            while not self._ended.is_set():
                began = time.monotonic()
                assert http.post("/predict", content=png(), headers={"Content-Type": "image/png"}).status_code == 200
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.answers += 1
                time.sleep(0.01)


@pytest.mark.parametrize("make", [*REFUSED, *TAKEN], ids=lambda make: make.__name__)
def test_a_hostile_file_costs_little_memory_and_nobody_elses_time(server: Server, make: Make) -> None:
    content = made(make)
    server.peak_bytes()
    before = server.peak_bytes()
    with OtherClient(server) as other:
        response = server.post(content)
    growth_bytes = server.peak_bytes() - before
    print(f"{make.__name__}: {growth_bytes / 1e6:.0f} MB, another's longest wait {other.longest_s:.2f} s")
    if make in TAKEN:
        assert response.status_code == 200, response.text
    else:
        assert response.status_code in {413, 422}
        assert REFUSED[make] in response.json()["error"]["message"]
    assert growth_bytes < MAX_GROWTH_OF_ANY_BYTES
    assert other.longest_s < MAX_WAIT_S


@pytest.mark.parametrize("make", [*REFUSED, *TAKEN], ids=lambda make: make.__name__)
def test_hostile_files_in_every_thread_hold_nobody_else_up(server: Server, make: Make) -> None:
    with ThreadPoolExecutor(HOSTILE_CLIENTS) as pool, OtherClient(server) as other:
        for response in pool.map(server.post, [made(make)] * HOSTILE_CLIENTS):
            assert response.status_code in {200, 413, 422}
    print(f"{make.__name__}: another's longest wait {other.longest_s:.2f} s")
    assert other.longest_s < MAX_WAIT_S


def test_many_at_once_cost_hardly_more_than_one(server: Server) -> None:
    """The images of one request are decoded one at a time, in a process that gives its memory back."""
    files = [("file", (f"{number}", made(webp_without_loss))) for number in range(AT_ONCE)]
    server.peak_bytes()
    before = server.peak_bytes()
    with OtherClient(server) as other:
        response = server.http.post("/predict", files=files, timeout=300)
    assert response.status_code == 200, response.text
    assert all(result["predictions"] for result in response.json()["results"])
    growth_bytes, children_bytes = server.peak_bytes() - before, server.children_bytes()
    print(f"{AT_ONCE} at once: {growth_bytes / 1e6:.0f} MB, another's longest wait {other.longest_s:.2f} s")
    assert growth_bytes < MAX_GROWTH_OF_ANY_BYTES
    assert other.longest_s < MAX_WAIT_S
    assert children_bytes < MAX_GROWTH_OF_ANY_BYTES, "the decoders gave their memory back"
