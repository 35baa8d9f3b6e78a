"""Compares what could compute predictions: torch, ONNX Runtime and OpenVINO, on our own networks, forward pass only.

    .venv/bin/python -m bench.engines [--recipes notes-cifar10 paper-2012] [--batches 1 16 64] [--threads 2]

The engines take turns; the median of the rounds counts. An engine that is not installed is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.export.onnx import build_onnx
from alexnet_core.inference.compiled_network import Compiler
from alexnet_core.network.checkpoint import Checkpoint, save_checkpoint, weights_sha256
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import get_recipe

Compute = Callable[[NDArray[np.float32]], object]


def make_checkpoint(recipe: str, folder: Path) -> Checkpoint:
    """Make an untrained network, and write it to a folder."""
    config = get_recipe(recipe).config
    names = tuple(str(number) for number in range(1000 if config.image_px > 64 else 10))
    torch.manual_seed(0)
    weights = {name: value.detach() for name, value in build_model(config, len(names), 3).state_dict().items()}
    transform = Preprocessing(image_px=config.image_px, channels=3, mean=(120.0,) * 3, std=(60.0,) * 3)
    metadata = {"weights_sha256": weights_sha256(weights)}
    checkpoint = Checkpoint(folder / recipe, config, names, transform, metadata, weights)
    save_checkpoint(checkpoint)
    return checkpoint


def list_engines(checkpoint: Checkpoint, threads: int) -> dict[str, Compute]:
    """Return what computes logits_BK from input_BCHW, by its name."""
    predictor = Predictor.of(checkpoint)
    low = Predictor.of(checkpoint).model.bfloat16()

    def in_bf16(x_BCHW: NDArray[np.float32]) -> object:
        with torch.inference_mode():
            x = torch.from_numpy(x_BCHW).contiguous(memory_format=torch.channels_last)
            return low(x.bfloat16()).float()

    engines: dict[str, Compute] = {
        "torch fp32": lambda x_BCHW: predictor.logits(torch.from_numpy(x_BCHW)),
        "torch bf16": in_bf16,
    }
    for precision in ("fp32", "bf16"):
        engines[f"OpenVINO {precision}"] = Compiler(threads, precision).load(checkpoint.path).logits
    try:
        import onnxruntime
    except ImportError:
        return engines
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(build_onnx(checkpoint).SerializeToString(), options)
    engines["ONNX Runtime fp32"] = lambda x_BCHW: session.run(None, {"input": x_BCHW})
    return engines


def measure(compute: Compute, x_BCHW: NDArray[np.float32], seconds: float) -> float:
    """Return images/s."""
    compute(x_BCHW)
    began, batches = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        compute(x_BCHW)
        batches += 1
    return batches * len(x_BCHW) / took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["notes-cifar10", "paper-2012"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        for recipe in given.recipes:
            checkpoint = make_checkpoint(recipe, Path(folder))
            engines = list_engines(checkpoint, given.threads)
            side = checkpoint.preprocessing.image_px
            print(
                f"\n{recipe}, images/s at batch {', '.join(map(str, given.batches))}, {given.threads} threads",
                flush=True,
            )
            images = {
                size: np.random.default_rng(0).random((size, 3, side, side), np.float32) for size in given.batches
            }
            rows: dict[str, dict[int, list[float]]] = {name: {size: [] for size in images} for name in engines}
            for _ in range(given.rounds):
                for size, x_BCHW in images.items():
                    for name, compute in engines.items():
                        rows[name][size].append(measure(compute, x_BCHW, given.seconds))
            for name, found in rows.items():
                figures = " | ".join(f"{statistics.median(found[size]):,.0f}" for size in given.batches)
                print(f"| {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
