"""Measures our local response normalisation against torch.nn.LocalResponseNorm, forward and backward, on a CPU.

    .venv/bin/python bench/response_norm.py [--rounds 20] [--images 16]

It measures the two places where `paper-2012` has such a norm, in fp32 and, for ours, in bf16 (torch has no kernel for
that). The best of the rounds counts; they alternate. Compare ratios only: absolute times depend on what else the
machine does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from alexnet_core.network.normalisation import LocalResponseNorm
from alexnet_core.network.response_forms import FORMS

PLACES = {"after conv1": (96, 55), "after conv2": (256, 27)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--images", type=int, default=16)
    options = parser.parse_args()
    form = FORMS["lrn"]
    torchs = nn.LocalResponseNorm(form.size, alpha=form.alpha * form.size, beta=form.beta, k=form.k)
    for place, (maps, side) in PLACES.items():
        x = torch.randn(options.images, maps, side, side).contiguous(memory_format=torch.channels_last)
        contenders: dict[str, Callable[[], tuple[float, float]]] = {
            "torch fp32": partial(measure, torchs, x),
            "ours fp32": partial(measure, LocalResponseNorm(form), x),
            "ours bf16": partial(measure, LocalResponseNorm(form), x.bfloat16()),
        }
        best = {name: (float("inf"), float("inf")) for name in contenders}
        for _ in range(options.rounds):
            for name, run in contenders.items():
                best[name] = tuple(map(min, best[name], run()))  # type: ignore[assignment]
        print(f"{place}: {options.images} x {maps} x {side} x {side}, {torch.get_num_threads()} threads")
        for name, (forward_s, backward_s) in best.items():
            ratios = (best["torch fp32"][0] / forward_s, best["torch fp32"][1] / backward_s)
            print(
                f"  {name:10} forward {forward_s * 1e3:6.1f} ms ({ratios[0]:4.1f} times as fast), "
                f"backward {backward_s * 1e3:6.1f} ms ({ratios[1]:4.1f})"
            )


def measure(layer: nn.Module, x: Tensor) -> tuple[float, float]:
    """Return the seconds of one forward and one backward pass."""
    x = x.detach().requires_grad_()
    towards = torch.ones_like(x)
    began = time.perf_counter()
    y = layer(x)
    between = time.perf_counter()
    y.backward(towards)
    return between - began, time.perf_counter() - between


if __name__ == "__main__":
    main()
