"""Images that are small as a file and huge in memory: refused by their header, at no cost."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.served import error_of, png

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc"),
]

ROOT = Path(__file__).parents[3]
SIDE_PX = 10_000
MAX_GROWTH_BYTES = 150_000_000


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
            base_url=f"http://127.0.0.1:{int(self._process.stdout.readline())}", timeout=60, trust_env=False
        )

    def peak_bytes(self) -> int:
        """The child's highest resident memory since this was asked before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

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
