import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_core.data import decoder_process
from alexnet_core.data.decoder_process import Answer, DecoderProcess
from alexnet_core.data.images import decode_image
from alexnet_core.errors import ImageFormatUnsupported, ImageTooLarge, ImageUnreadable
from tests.hostile_images import bmp_of_run_lengths, encode

ROOT = Path(__file__).parents[3]
NOISE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture
def child() -> Iterator[DecoderProcess]:
    process = DecoderProcess(max_pixels=1_000_000)
    yield process
    process.close()


def test_the_middle_square_has_the_very_pixels_of_the_decoder(child: DecoderProcess) -> None:
    assert child.pid is None, "it is started when it is needed"
    for file_format in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"):
        data = encode(Image.fromarray(NOISE), file_format)
        assert np.array_equal(child.decode(data), decode_image(data)[:, 15:75])
    grey = encode(Image.fromarray(NOISE[..., 0]), "PNG")
    first = child.pid
    assert child.decode(grey).shape == (60, 60, 1)
    assert child.pid == first, "one child serves image after image"


def test_errors_come_back_as_what_they_are(child: DecoderProcess) -> None:
    whole = encode(Image.fromarray(NOISE), "PNG")
    for data, kind in [
        (b"text", ImageFormatUnsupported),
        (b"", ImageUnreadable),
        (whole[:2000], ImageUnreadable),
        (encode(Image.new("L", (1001, 1000)), "PNG"), ImageTooLarge),
    ]:
        with pytest.raises(kind) as caught:
            child.decode(data)
        with pytest.raises(kind) as expected:
            decode_image(data, max_pixels=1_000_000)
        assert caught.value.message == expected.value.message
    assert child.decode(whole).shape == (60, 60, 3)


def test_a_child_that_dies_costs_its_image_alone(child: DecoderProcess) -> None:
    whole = encode(Image.fromarray(NOISE), "PNG")
    child.decode(whole)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ImageUnreadable, match="broke down"):
        child.decode(whole)
    assert child.decode(whole).shape == (60, 60, 3)
    assert child.pid != first


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's limits are Linux's")
def test_an_image_that_takes_too_long_is_ended_by_the_kernel() -> None:
    """A BMP of run lengths that is small enough to be taken, and takes longer than the second that it is given."""
    process = DecoderProcess(max_pixels=25_000_000, max_cpu_s=0)
    data = bmp_of_run_lengths()[:1_900_000]
    began = time.monotonic()
    with pytest.raises(ImageTooLarge, match="more than 0 seconds"):
        decode_until_refused(process, data, until=began + 60)
    process.close()


def decode_until_refused(process: DecoderProcess, data: bytes, until: float) -> None:
    """The kernel counts whole seconds, so that one image may have the rest of one."""
    while time.monotonic() < until:
        with contextlib.suppress(ImageUnreadable):
            process.decode(data)


def test_an_image_that_waits_for_ever_is_ended_by_the_clock(
    child: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode(Image.fromarray(NOISE), "PNG")
    child.decode(whole)
    assert child.pid is not None
    monkeypatch.setattr(decoder_process, "_WAITS", 0.05)
    os.kill(child.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(ImageTooLarge, match="more than 10 seconds"):
        child.decode(whole)
    assert time.monotonic() - began < 20
    monkeypatch.undo()
    assert child.decode(whole).shape == (60, 60, 3)


def test_an_image_that_takes_too_much_memory_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: bytes, *, max_pixels: int) -> None:
        raise MemoryError

    monkeypatch.setattr(decoder_process, "decode_image", fail)
    pixels, answer = decoder_process._decode(b"", 1)
    assert (pixels, answer.code) == (None, "image_too_large")
    assert "more memory" in answer.message


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's limits are Linux's")
def test_the_childs_memory_has_an_end() -> None:
    code = """
from alexnet_core.data.decoder_process import _limit_memory
_limit_memory(100_000_000)
bytearray(50_000_000)
try:
    bytearray(150_000_000)
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"]


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_the_child_knows_no_secret_and_gives_way(child: DecoderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_ADMIN_KEY", "a-secret-that-is-long-enough")
    child.decode(encode(Image.fromarray(NOISE), "PNG"))
    assert child.pid is not None
    assert b"TRAINYARD" not in Path(f"/proc/{child.pid}/environ").read_bytes()
    assert os.getpriority(os.PRIO_PROCESS, child.pid) >= decoder_process._NICENESS
    modules = Path(f"/proc/{child.pid}/maps").read_text()
    assert "libtorch" not in modules


def test_what_the_decoder_warns_of_is_logged(child: DecoderProcess, caplog: pytest.LogCaptureFixture) -> None:
    child.decode(damaged_tags())
    assert any("a warning from the decoder of an image" in record.message for record in caplog.records)


def damaged_tags() -> bytes:
    """A TIFF with a tag whose value lies behind the file: Pillow warns, and goes on."""
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1), (700, 1, 1_000_000, 8)]
    tags = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 10) + b"\x07\0" + struct.pack("<H", len(entries)) + tags + b"\0" * 4


def test_an_answer_reads_as_it_was_written() -> None:
    for answer in (Answer((1, 2, 3)), Answer(code="image_unreadable", message="why", warnings=("a", "b"))):
        assert Answer.read(answer.write()) == answer
    for line in (b"", b"[]", b"{}", b'{"shape": "x"}'):
        with pytest.raises((ValueError, KeyError, TypeError)):
            Answer.read(line)
