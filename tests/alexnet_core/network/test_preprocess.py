import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alexnet_core.network import preprocess
from alexnet_core.network.preprocess import Preprocessing

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("shape", [(1500, 1500, 3), (1203, 1999, 3), (2001, 1100, 1)])
@pytest.mark.parametrize(("image_px", "resize_px", "channels"), [(32, None, 3), (227, 256, 1), (512, None, 3)])
def test_a_large_image_has_the_bits_of_one_that_is_resized_at_once(
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int, int],
    image_px: int,
    resize_px: int | None,
    channels: int,
) -> None:
    means = (100.0,) * channels
    transform = Preprocessing(image_px=image_px, resize_px=resize_px, channels=channels, mean=means, std=means)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8))
    narrowed: list[int] = []
    genuine = Preprocessing._narrow

    def narrow(*given: Any) -> Any:
        narrowed.append(1)
        return genuine(*given)

    monkeypatch.setattr(Preprocessing, "_narrow", narrow)
    in_strips = transform.to_input(pixels)
    assert narrowed
    monkeypatch.setattr(preprocess, "_PIXELS_AT_ONCE", 1 << 40)
    assert torch.equal(in_strips, transform.to_input(pixels))
    assert len(narrowed) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_the_largest_image_is_resized_in_little_memory() -> None:
    """At once it would be 300 MB of floating-point numbers, and the resizing's own.

    The strips take 77 MB with two threads; each further one keeps some memory of its own.
    """
    code = """
import re
from pathlib import Path
import torch
from alexnet_core.network.preprocess import Preprocessing
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
transform = Preprocessing(image_px=224, resize_px=256, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
transform.to_input(torch.ones(1, 300, 300, 3, dtype=torch.uint8))
pixels = torch.ones(1, 5000, 5000, 3, dtype=torch.uint8)
before = peak()
transform.to_input(pixels)
print(1024 * (peak() - before))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    taken = int(re.findall(r"\d+", done.stdout)[-1])
    print(f"{taken / 1e6:.0f} MB")
    assert taken < 150_000_000


@pytest.mark.parametrize("found", [2, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_two_or_four_channels_are_refused_in_words(found: int, channels: int) -> None:
    """Two were computed with as none at all."""
    transform = Preprocessing(image_px=8, channels=channels, mean=(1.0,) * channels, std=(1.0,) * channels)
    with pytest.raises(ValueError, match=f"have {found} channels: give 1"):
        transform.to_input(torch.zeros(1, 8, 8, found, dtype=torch.uint8))
