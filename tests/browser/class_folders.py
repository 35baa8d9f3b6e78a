"""Pictures in class folders, as people have them: small shapes on noise, so that an archive is as large as it looks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "cross")
PX = 48


def make_folder(folder: Path, *, each: int = 30, seed: int = 0) -> Path:
    """Write so many pictures of each class, and a file that is none."""
    draws = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            _draw(name, draws).save(folder / name / f"{number:03}.png")
    (folder / CLASSES[0] / "cut.png").write_bytes((folder / CLASSES[0] / "000.png").read_bytes()[:200])
    return folder


def make_zip(folder: Path) -> Path:
    """Pack a folder, beside it."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))
    return archive


def _draw(name: str, draws: np.random.Generator) -> Image.Image:
    picture = Image.fromarray(draws.integers(120, 255, (PX, PX, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(picture)
    x, y, r = (int(value) for value in (*draws.integers(16, 32, 2), draws.integers(8, 14)))
    if name == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(20, 20, 90))
    elif name == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=(20, 20, 90))
    else:
        pen.rectangle((x - r, y - 3, x + r, y + 3), fill=(20, 20, 90))
        pen.rectangle((x - 3, y - r, x + 3, y + r), fill=(20, 20, 90))
    return picture
