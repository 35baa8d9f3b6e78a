"""What an API process's memory is made of: libraries one after the other, and what batches of many sizes leave behind.

    .venv/bin/python -m bench.memory_parts [--recipes quick small-images notes-cifar10] [--repeats 2]

First the API's imports and torch's are made one after the other, each library of the wheel by itself; a line for each
says by how many megabytes it made the process larger: resident, and its own (anonymous). Libraries that others have
pulled in by then add nothing. Then, in a process of its own each, one thread computes batches of all sizes from 1 to 64
in a random order, as they are and rounded up as the API does. Nothing but Linux tells the figures (`smaps_rollup`).
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import multiprocessing
import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

CUPTI = ["cudart", "cupti"]  #: `libtorch_cpu` of the wheel with CUDA needs them, too
NVIDIA = ["nvrtc", "nvJitLink", "cublasLt", "cublas", "cufft", "curand", "cusparse", "cusolver", "cusparseLt"]
NVIDIA += ["cudnn", "nccl", "nvshmem_host"]  # in the order of who needs whom
SIZES = range(1, 65)
_FIGURE = re.compile(r"^(?:Rss|Anonymous):\s+(\d+) kB", re.MULTILINE)


def read_memory() -> tuple[float, float]:
    """Megabytes of this process: resident, and anonymous."""
    resident, own = _FIGURE.findall(Path("/proc/self/smaps_rollup").read_text())
    return int(resident) / 1024, int(own) / 1024


def find_libraries() -> list[Path]:
    """Those of torch and NVIDIA that `import torch` loads; a wheel for CPUs has the first two only."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch = Path(spec.origin).parent / "lib"
    nvidia = torch.parent.parent / "nvidia"
    first, then = (
        [path for name in names for path in nvidia.glob(f"*/lib/lib{name}.so.*")] for names in (CUPTI, NVIDIA)
    )
    return [*first, torch / "libc10.so", torch / "libtorch_cpu.so", *then, *torch.glob("libtorch_cuda.so")]


def weigh_imports() -> None:
    """Print a line for each step from an empty Python to one that could serve."""
    print(f"{'Python itself':32} {read_memory()[0]:6.1f} {read_memory()[1]:6.1f}")
    steps: list[tuple[str, Callable[[], object]]] = [("the API, no torch", partial(importlib.import_module, "api.app"))]
    steps += [
        (library.name.split(".")[0], partial(ctypes.CDLL, str(library), mode=ctypes.RTLD_GLOBAL))
        for library in find_libraries()
    ]
    steps += [("import torch, its Python part", partial(importlib.import_module, "torch"))]
    for name, take in steps:
        before = read_memory()
        take()
        resident, own = (now - then for now, then in zip(read_memory(), before, strict=True))
        print(f"{name:32} {resident:6.1f} {own:6.1f}", flush=True)
    print(f"{'all together':32} {read_memory()[0]:6.1f} {read_memory()[1]:6.1f}", flush=True)


def weigh_batches(recipe: str, repeats: int, rounded: bool) -> None:
    """Print by how much batches of all sizes have made the process larger."""
    import torch

    from alexnet_core.network.model import build_model
    from alexnet_core.recipes import get_recipe
    from api.serving.runtime import round_batch_up

    config = get_recipe(recipe).config
    torch.set_num_threads(1)
    model = build_model(config, 10, 3).eval()
    sizes = [size for size in SIZES for _ in range(repeats)]
    random.Random(0).shuffle(sizes)
    with torch.inference_mode():
        for number, size in enumerate([1, *sizes]):
            size = round_batch_up(size) if rounded else size
            x_BCHW = torch.zeros(size, 3, config.image_px, config.image_px)
            model(x_BCHW.contiguous(memory_format=torch.channels_last))
            if number == 0:
                before = read_memory()
    resident, own = (now - then for now, then in zip(read_memory(), before, strict=True))
    print(f"{recipe:24} {'20 sizes' if rounded else '64 sizes'} {resident:6.1f} {own:6.1f}", flush=True)


def run_apart(what: Callable[..., None], *arguments: object) -> None:
    """Call it in a fresh process."""
    process = multiprocessing.get_context("spawn").Process(target=what, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{what.__name__} ended with {process.exitcode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", nargs="*", default=["quick", "small-images", "notes-cifar10"])
    parser.add_argument("--repeats", type=int, default=2, help="batches of each size (default 2)")
    given = parser.parse_args()
    print(f"{'megabytes more':32} {'rss':>6} {'own':>6}")
    run_apart(weigh_imports)
    for recipe in given.recipes:
        for rounded in (False, True):
            run_apart(weigh_batches, recipe, given.repeats, rounded)


if __name__ == "__main__":
    main()
