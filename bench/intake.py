"""Measures how fast images become a pack, beside what torchvision and Hugging Face need to read the same ones once.

    .venv/bin/python bench/intake.py [--images 5000] [--rounds 2] [--hugging-face PYTHON] [--memory 1000 100000]

Makes JPEGs of 500x375 in ten classes (parts of scikit-learn's two photographs, with noise), as a folder and as a zip.
Each arm is a process of its own, the arms take turns, and the best round of each counts. Times begin when everything is
imported. `ImageFolder` is torchvision's with Resize(256), CenterCrop(256) and PILToTensor: the same pixels as in the
pack, but nothing is kept, checked or counted. `--hugging-face` is a Python with the package `datasets` and Pillow: its
`imagefolder`, read in one process, and stored as bytes by two. With `--memory` only the peak memory of packing zips of
tiny images is measured.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE_PX, BATCH_SIZE, NUM_CLASSES = 256, 128, 10

Arm = Callable[[Path], Generator[None, None, None]]

HUGGING_FACE = """
import json, resource, sys, time
import datasets
from PIL import Image
folder, cache, how = sys.argv[1:4]

def square(image):
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.BILINEAR)

def stored(batch):
    return {"pixels": [square(image).tobytes() for image in batch["image"]]}

def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

if __name__ == "__main__":
    datasets.disable_progress_bars()
    began, before = time.perf_counter(), cpu()
    data = datasets.load_dataset("imagefolder", data_dir=folder, cache_dir=cache, split="train")
    if how == "read":
        for row in data:
            square(row["image"]).tobytes()
    else:
        data.map(stored, batched=True, batch_size=64, num_proc=2, remove_columns=["image"])
    print(json.dumps({"wall_s": time.perf_counter() - began, "cpu_s": cpu() - before}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="how many (default 5000)")
    parser.add_argument("--rounds", type=int, default=2, help="of each arm (default 2)")
    parser.add_argument("--hugging-face", metavar="PYTHON", help="one that has the package datasets")
    parser.add_argument(
        "--folder", type=Path, help="where the images are kept for another run (default: a temporary one)"
    )
    parser.add_argument("--memory", type=int, nargs="+", metavar="IMAGES", help="measure only peak memory")
    parser.add_argument("--arm", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.arm:
        print(json.dumps(_measure(ARMS[given.arm[0]], Path(given.arm[1]))))
    elif given.memory:
        _compare_memory(given.memory)
    else:
        with tempfile.TemporaryDirectory() as name:
            _compare_speed(given.folder or Path(name), given.images, given.rounds, given.hugging_face)


def _compare_speed(folder: Path, num_images: int, rounds: int, hugging_face: str | None) -> None:
    if not (folder / "photographs.zip").exists():
        _write_photographs(folder, num_images)
    num_bytes = (folder / "photographs.zip").stat().st_size
    print(f"{num_images} JPEGs of 500x375, {num_bytes / num_images / 1000:.0f} kB each", flush=True)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for arm in ARMS:
            found.setdefault(arm, []).append(_run_arm(arm, folder))
        for how in ("read", "store") if hugging_face else ():
            command = [
                hugging_face or "",
                "-c",
                HUGGING_FACE,
                str(folder / "photographs"),
                str(folder / "cache"),
                how,
            ]
            found.setdefault(f"hugging face, {how}", []).append(_run(command))
            shutil.rmtree(folder / "cache")
    plain = min(it["wall_s"] for it in found["ImageFolder, one process"])
    print(f"{'arm':32} {'wall':>8} {'CPU':>8} {'images/s':>9} {'times ImageFolder':>18} {'peak':>8}")
    for arm, results in found.items():
        best = min(results, key=lambda it: it["wall_s"])
        rate = f"{num_images / best['wall_s']:9.0f} {plain / best['wall_s']:18.2f}" if "first" not in arm else " " * 28
        peak = f"{best['peak_mb']:5.0f} MB" if arm.startswith("pack") else ""
        print(f"{arm:32} {best['wall_s']:6.2f} s {best['cpu_s']:6.2f} s {rate} {peak:>8}")


def _compare_memory(numbers: list[int]) -> None:
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with zipfile.ZipFile(folder / "photographs.zip", "w") as archive:
                for index in range(number):
                    pixels = np.random.default_rng(index).integers(0, 256, (16, 16, 3)).astype(np.uint8)
                    archive.writestr(f"class_{index % NUM_CLASSES}/image_{index:06d}.bmp", _encode(pixels, "BMP"))
            found = _run_arm("pack of a zip", folder)
            print(f"{number:8} images: peak {found['peak_mb']:.0f} MB, {found['wall_s']:.1f} s", flush=True)


def _write_photographs(folder: Path, num_images: int) -> None:
    """Write the images as files and into a zip, which is complete at the end only."""
    with ProcessPoolExecutor(2) as pool, zipfile.ZipFile(folder / "photographs.part", "w") as archive:
        for index, data in enumerate(pool.map(_make_photograph, range(num_images), chunksize=50)):
            path = folder / "photographs" / f"class_{index % NUM_CLASSES}" / f"{index:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            archive.write(path, path.relative_to(folder / "photographs"))
    (folder / "photographs.part").rename(folder / "photographs.zip")


def _make_photograph(index: int) -> bytes:
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(index)
    whole = Image.fromarray(load_sample_images().images[index % 2])
    width = int(generator.integers(220, 560))
    height = width * 3 // 4
    left, top = int(generator.integers(0, whole.width - width)), int(generator.integers(0, whole.height - height))
    part = whole.crop((left, top, left + width, top + height)).resize((500, 375), Image.Resampling.BICUBIC)
    colours, noise = generator.uniform(0.7, 1.2, 3), generator.normal(0, 4, (375, 500, 1))
    return _encode((np.asarray(part) * colours + noise).clip(0, 255).astype(np.uint8), "JPEG", quality=90)


def _encode(pixels: np.ndarray[Any, np.dtype[np.uint8]], file_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


# --- the arms, each in a process of its own ---


def _run_arm(arm: str, folder: Path) -> dict[str, float]:
    return _run([sys.executable, __file__, "--arm", arm, str(folder)])


def _run(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(arm: Arm, folder: Path) -> dict[str, float]:
    """Run an arm: up to its first `yield` it imports, up to its second one it works."""
    steps = arm(folder)
    next(steps)
    began, before = time.perf_counter(), _cpu_s()
    next(steps, None)
    wall_s = time.perf_counter() - began
    steps.close()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall_s": wall_s, "cpu_s": _cpu_s() - before, "peak_mb": peak_mb}


def _cpu_s() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _pack(folder: Path, source: str) -> Generator[None, None, None]:
    from alexnet_core.data.intake.options import IntakeOptions
    from alexnet_core.data.intake.packing import pack_images
    from alexnet_core.memory import bound_arenas

    bound_arenas(os.environ)  # as `python -m alexnet_core prepare` does
    shutil.rmtree(folder / "pack", ignore_errors=True)
    yield
    pack_images(folder / source, folder / "pack", IntakeOptions(name="photographs"))
    yield


def _load(folder: Path, workers: int, *, only_first: bool = False) -> Generator[None, None, None]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    yield
    images = ImageFolder(str(folder / "photographs"), Compose([Resize(SIDE_PX), CenterCrop(SIDE_PX), PILToTensor()]))
    batches = iter(DataLoader(images, batch_size=BATCH_SIZE, shuffle=only_first, num_workers=workers))
    for _ in batches:
        if only_first:
            break
    else:
        del batches  # its processes end, so that their CPU time is known
    yield


def _first_of_pack(folder: Path) -> Generator[None, None, None]:
    from alexnet_core.data.pack import open_pack
    from alexnet_core.recipes import resolve
    from alexnet_core.training.batches import Batches
    from alexnet_core.training.world import World

    yield
    pack = open_pack(folder / "pack")
    _, config = resolve("paper-2012", {"batch_size": BATCH_SIZE}, pack.facts)
    Batches(config, pack, 0, World()).load(0)
    yield


ARMS: dict[str, Arm] = {
    "pack of a zip": lambda folder: _pack(folder, "photographs.zip"),
    "pack of a folder": lambda folder: _pack(folder, "photographs"),
    "ImageFolder, one process": lambda folder: _load(folder, 0),
    "ImageFolder, two workers": lambda folder: _load(folder, 2),
    "first batch of the pack": _first_of_pack,
    "first batch of ImageFolder": lambda folder: _load(folder, 2, only_first=True),
}

if __name__ == "__main__":
    main()
