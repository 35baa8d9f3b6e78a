"""Measures explanations, the search for similar images, and how well unfamiliar images are told.

    .venv/bin/python -m bench.insight speed [--repeats 15]
    .venv/bin/python -m bench.insight search [--images 60000] [--faiss FOLDER]
    .venv/bin/python -m bench.insight unfamiliar CHECKPOINT DATASET OTHER [--data-dir data]

`speed` asks the API's child process, as routes do: the time is from the image's bytes to the PNG, without HTTP, with
one thread at the lowest priority but nine. Networks are untrained, which costs the same. `search` compares an exact
search by NumPy, by Faiss (`pip install --target FOLDER faiss-cpu`) and through the child on indexes of random units.
`unfamiliar` says, for scores that cost nothing beside a prediction, which share of unfamiliar images is above the
threshold that 95 % of the test images stay below, and the area under the ROC curve. `neighbours` (the distance to the
tenth nearest training image in the last hidden layer) is what an index would add.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from alexnet_core.commands.datasets import open_dataset
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.insight.methods import Method, PassKind, View
from alexnet_core.insight.named_layers import last_hidden_layer
from alexnet_core.insight.protocol import Answer, Explain, FindSimilar, GoOn, Request
from alexnet_core.insight.similar_images import SimilarityIndex, write_index
from alexnet_core.network.checkpoint import Checkpoint, save_checkpoint, weights_sha256
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import get_recipe
from api.insight.child_process import InsightProcess

CLASSES = tuple("abcdefghij")
_MEMORY_BYTES, _LIMIT_S = 3 << 30, 600
_SIZES = {"quick": (28, 28), "notes-cifar10": (32, 32), "paper-2012": (500, 375)}  # of the image, by recipe
_SAMPLE = 1000  # images of each kind

Values = NDArray[np.float64]


def save_untrained(recipe: str, folder: Path) -> Path:
    """A checkpoint with random weights."""
    config = get_recipe(recipe).config
    torch.manual_seed(0)
    model = build_model(config, len(CLASSES), 3)
    weights = {name: values.detach() for name, values in model.state_dict().items()}
    how = Preprocessing(
        image_px=config.image_px, resize_px=config.resize_px, channels=3, mean=(120.0,) * 3, std=(60.0,) * 3
    )
    metadata = {"weights_sha256": weights_sha256(weights)}
    path = folder / f"{recipe}-epoch-00000001-e1"
    save_checkpoint(Checkpoint(path, config, CLASSES, how, metadata, weights, state={}, state_tensors={}))
    return path


def draw_image(width: int, height: int) -> bytes:
    """A JPEG of noise, which is harder to decode than a photo."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(act: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Milliseconds: median and highest. The first time does not count."""
    act()
    times = []
    for _ in range(repeats):
        began_at = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - began_at))
    return statistics.median(times), max(times)


class Child:
    """The API's child process."""

    def __init__(self) -> None:
        self.process = InsightProcess(memory_bytes=_MEMORY_BYTES, max_pixels=25_000_000, threads=1)

    def ask(self, request: Request, blob: bytes = b"") -> Answer:
        answer, _ = self.process.ask(request, blob, limit_s=_LIMIT_S)
        assert not answer.code, answer
        return answer

    def megabytes(self) -> int:
        """Proportional share of the memory."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) // 1000


def run_speed(repeats: int) -> None:
    print(f"load {os.getloadavg()[0]:.1f}, {repeats} repeats; milliseconds: median (highest)")
    print("| network | image | method | ms | MB of the child |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for recipe, size in _SIZES.items():
            child, image = Child(), draw_image(*size)
            checkpoint = save_untrained(recipe, Path(folder))
            for method in Method:
                request = Explain(
                    checkpoint=checkpoint, manifest_sha256=recipe, method=method, target=None, view=View.HEAT, px=None
                )
                median, highest = measure(partial(child.ask, request, image), repeats)
                where = f"{size[0]}x{size[1]}"
                print(f"| {recipe} | {where} | {method} | {median:.0f} ({highest:.0f}) | {child.megabytes()} |")
            child.process.close()


def run_search(images: int, faiss_folder: Path | None) -> None:
    print(f"load {os.getloadavg()[0]:.1f}; {images:,} images, 20 nearest; milliseconds: median (highest)")
    print("| units | MB of the index | NumPy | Faiss | `FindSimilar` in the child |\n|---|---|---|---|---|")
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = generator.integers(0, 256, (images, 28, 28, 1)).astype(np.uint8)
        pack = write_pack(
            folder / "pack", name="noise", class_names=CLASSES, images_NHWC=pixels,
            labels_N=generator.integers(0, 10, images), split_N=np.zeros(images, np.uint8), flip_safe=False,
        )  # fmt: skip
        for recipe, width in (("quick", 256), ("notes-cifar10", 4096)):
            units = np.maximum(generator.standard_normal((images, width), dtype=np.float32), 0)
            target = folder / f"index-{width}"
            target.mkdir()
            write_index(target, units, np.arange(images, dtype=np.int64))
            index, query = SimilarityIndex(target), units[17]
            by_numpy = measure(partial(index.search, query, 20), 15)
            by_faiss = measure_faiss(units, query, faiss_folder)
            del units
            child, checkpoint = Child(), save_untrained(recipe, folder)
            request = FindSimilar(checkpoint=checkpoint, manifest_sha256=recipe, index=target, pack=pack.path, k=20)
            by_child = measure(partial(child.ask, request, draw_image(28, 28)), 15)
            size = sum(file.stat().st_size for file in target.iterdir()) // 1_000_000
            print(f"| {width} | {size} | {show(by_numpy)} | {show(by_faiss)} | {show(by_child)} |")
            rate = measure_making(child, recipe, checkpoint, pack.path, folder)
            print(f"  making an index with {recipe}: {rate:,.0f} images/s")
            child.process.close()


def measure_making(child: Child, recipe: str, checkpoint: Path, pack: Path, folder: Path) -> float:
    """Images a second that are computed for an index, in steps as the API asks for them."""
    draft = folder / f"draft-{recipe}"
    draft.mkdir()
    done, began_at = 0, time.perf_counter()
    while time.perf_counter() - began_at < 10:
        answer = child.ask(
            GoOn(
                checkpoint=checkpoint, manifest_sha256=recipe, kind=PassKind.INDEX, split="train", pack=pack,
                draft=draft, done=done, seconds=0.5,
            )
        )  # fmt: skip
        done = answer.done
        if done == answer.total:
            break
    return done / (time.perf_counter() - began_at)


def measure_faiss(
    units_ND: NDArray[np.float32], query_D: NDArray[np.float32], folder: Path | None
) -> tuple[float, float]:
    if folder is None:
        return float("nan"), float("nan")
    sys.path.insert(0, str(folder))
    import faiss  # type: ignore[import-not-found]  # it is no dependency

    index = faiss.IndexFlatL2(units_ND.shape[1])
    index.add(units_ND)
    return measure(lambda: index.search(query_D[None], 20), 15)


def show(times: tuple[float, float]) -> str:
    return "-" if np.isnan(times[0]) else f"{times[0]:.0f} ({times[1]:.0f})"


def run_unfamiliar(checkpoint: Path, dataset: str, other: str, data_dir: Path) -> None:
    predictor = Predictor.load(checkpoint)
    own, strange = (open_dataset(name, data_dir=data_dir, source=None) for name in (dataset, other))
    test = own.list_indices("test")[:_SAMPLE]
    generator = np.random.default_rng(0)
    shape = (_SAMPLE, *own.images.shape[1:])
    known = own.list_indices("train")[:5000]
    _, known_units = compute(predictor, own.images[known])
    familiar = score(*compute(predictor, own.images[test]), known_units)
    grey = generator.integers(0, 256, (_SAMPLE, 1, 1, own.channels)).astype(np.uint8)
    kinds = {
        other: strange.images[strange.list_indices("test")[:_SAMPLE]],
        "noise": generator.integers(0, 256, shape).astype(np.uint8),
        "one grey": np.broadcast_to(grey, shape),
        "negatives": 255 - own.images[test],
    }
    print(f"{dataset}: {len(test)} test images; share above the threshold (area under the ROC curve)")
    print(f"| images | {' | '.join(familiar)} |\n|---|{'---|' * len(familiar)}")
    for kind, images in kinds.items():
        found = score(*compute(predictor, images), known_units)
        cells = [compare(familiar[name], found[name]) for name in familiar]
        print(f"| {kind} | {' | '.join(cells)} |")


def compute(predictor: Predictor, images: NDArray[np.uint8]) -> tuple[Values, NDArray[np.float32]]:
    logits, units = [], []
    for start in range(0, len(images), 256):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + 256]))
        with last_hidden_layer(predictor.model) as seen:
            logits.append(predictor.logits(predictor.preprocessing.to_input(batch)))
        units.append(seen[0])
    return torch.cat(logits).double().numpy(), torch.cat(units).numpy()


def score(logits_NK: Values, units_ND: NDArray[np.float32], known_MD: NDArray[np.float32]) -> dict[str, Any]:
    highest = logits_NK.max(axis=1)
    log_sum = highest + np.log(np.exp(logits_NK - highest[:, None]).sum(axis=1))
    squares = (known_MD**2).sum(axis=1) + (units_ND**2).sum(axis=1)[:, None] - 2 * units_ND @ known_MD.T
    return {
        "probability": -np.exp(highest - log_sum),
        "logit": -highest,
        "free energy": -log_sum,
        "neighbours": np.partition(squares, 9, axis=1)[:, 9],
    }


def compare(familiar: Values, strange: Values) -> str:
    above = float((strange > np.quantile(familiar, 0.95)).mean())
    labels = np.r_[np.zeros(len(familiar)), np.ones(len(strange))]
    return f"{above:.0%} ({roc_auc_score(labels, np.r_[familiar, strange]):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    speed = what.add_parser("speed")
    speed.add_argument("--repeats", type=int, default=15)
    search = what.add_parser("search")
    search.add_argument("--images", type=int, default=60_000)
    search.add_argument("--faiss", type=Path)
    unfamiliar = what.add_parser("unfamiliar")
    unfamiliar.add_argument("checkpoint", type=Path)
    unfamiliar.add_argument("dataset")
    unfamiliar.add_argument("other")
    unfamiliar.add_argument("--data-dir", type=Path, default=Path("data"))
    given = parser.parse_args()
    if given.what == "speed":
        run_speed(given.repeats)
    elif given.what == "search":
        run_search(given.images, given.faiss)
    else:
        run_unfamiliar(given.checkpoint, given.dataset, given.other, given.data_dir)


if __name__ == "__main__":
    main()
