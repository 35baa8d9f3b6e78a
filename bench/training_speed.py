"""How fast a recipe trains, beside what people use now, and how near that is to what the machine can do.

    .venv/bin/python bench/training_speed.py [--batch-sizes 64 128 512] [--rounds 3] [--seconds 10] [--keras PYTHON]
    .venv/bin/python bench/training_speed.py --recipe paper-2012 --batch-sizes 128

Contenders on the same made-up colour images (32 px for `notes-cifar10`, 256 px for `paper-2012`), each in a process of
its own, one after the other, as many rounds as asked; the best round of each counts, because whatever else runs on a
machine only slows it down:

- trainyard: the run of `python -m alexnet_core train`, from the pack to the updated weights;
- plain PyTorch: DataLoader, torchvision transforms, fp32, torch.optim.SGD (bench/peers/plain_pytorch.py); for
  `paper-2012` with torchvision's AlexNet, which has fewer maps and no response norm;
- Keras: the notes' own pipeline, ImageDataGenerator and model.fit on tensorflow-cpu (bench/peers/notes_keras.py), only
  with --keras PYTHON, a Python that has `tensorflow-cpu` and `scipy`.

The roof is computed from what this machine does in the same run: the products of a step at the peak of a large bf16
matrix product (fp32 where the CPU has no bf16), plus moving the optimiser's state once through memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_core.config import TrainConfig
from alexnet_core.network.geometry import describe
from alexnet_core.recipes import get_recipe

BENCH = Path(__file__).parent
BYTES_PER_PARAMETER = 20  # weight, velocity and gradient in fp32: all read, the first two written


@dataclass(frozen=True)
class Task:
    """What is trained on what."""

    classes: int
    num_images: int
    image_px: int
    network: str  #: of the plain peer

    def count_flops(self, config: TrainConfig) -> tuple[float, int]:
        """Floating-point operations an image and step (six a multiplication, padding included), and parameters."""
        layers = describe(config, self.classes, 3)
        products = sum(
            (layer.num_parameters - layer.channels) * layer.size_px**2
            for layer in layers
            if not layer.name.startswith("pool")
        )
        return 6.0 * products, sum(layer.num_parameters for layer in layers)


TASKS = {
    "notes-cifar10": Task(classes=10, num_images=10_000, image_px=32, network="notes-cifar10"),
    "paper-2012": Task(classes=1000, num_images=2_000, image_px=256, network="torchvision"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=list(TASKS), default="notes-cifar10")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring, for each contender and round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keras", help="the Python that has tensorflow-cpu and scipy")
    parser.add_argument("--ours", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(measure_ours(options)))
        return
    network = TASKS[options.recipe].network
    common = ["--seconds", str(options.seconds)]
    commands = {
        "trainyard": [sys.executable, __file__, *common, "--threads", str(options.threads), "--recipe", options.recipe],
        "plain PyTorch": [sys.executable, str(BENCH / "peers" / "plain_pytorch.py"), *common, "--network", network],
    }
    if options.keras:
        commands["Keras"] = [options.keras, str(BENCH / "peers" / "notes_keras.py"), *common]
    for batch_size in options.batch_sizes:
        compare(batch_size, commands, options)


def compare(batch_size: int, commands: dict[str, list[str]], options: argparse.Namespace) -> None:
    best: dict[str, dict[str, Any]] = {}
    roof = 0.0
    for _ in range(options.rounds):
        roof = max(roof, measure_roof(batch_size, options))
        for name, command in commands.items():
            answer = run([*command, *(["--ours"] if name == "trainyard" else []), str(batch_size)])
            if answer["images_per_s"] > best.get(name, {"images_per_s": 0.0})["images_per_s"]:
                best[name] = answer
    ours = best["trainyard"]["images_per_s"]
    print(f"batch {batch_size}: roof {roof:.0f} images/s")
    for name, answer in best.items():
        line = f"  {name:14} {answer['images_per_s']:6.0f} images/s, {answer['images_per_s'] / roof:4.0%} of the roof"
        if name == "trainyard":
            line += f", {answer['outside_share']:.1%} of a step outside the network ({answer['precision']})"
        else:
            line += f"; trainyard is {ours / answer['images_per_s']:.2f} times as fast"
        print(line, flush=True)


def run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measure_roof(batch_size: int, options: argparse.Namespace) -> float:
    """Images a second if a step were nothing but its products at peak and one pass over the optimiser's state."""
    code = (
        "import json, sys, time, torch\n"
        "torch.set_num_threads(int(sys.argv[1]))\n"
        "caps = torch.cpu.get_capabilities()\n"
        "bf16 = any(caps.get(name, False) for name in ('amx_bf16', 'avx512_bf16'))\n"
        "a = torch.randn(2048, 2048).to(torch.bfloat16 if bf16 else torch.float32)\n"
        "b, c = torch.randn(25_000_000), torch.empty(25_000_000)\n"
        "def best(work):\n"
        "    times = []\n"
        "    for _ in range(12):\n"
        "        began = time.perf_counter(); work(); times.append(time.perf_counter() - began)\n"
        "    return min(times)\n"
        "print(json.dumps({'flops': 2 * 2048**3 / best(lambda: a @ a), 'bytes': 200e6 / best(lambda: c.copy_(b))}))\n"
    )
    peak = run([sys.executable, "-c", code, str(options.threads)])
    flops, num_parameters = TASKS[options.recipe].count_flops(get_recipe(options.recipe).config)
    products_s = batch_size * flops / peak["flops"]
    memory_s = num_parameters * BYTES_PER_PARAMETER / peak["bytes"]
    print(
        f"  peak {peak['flops'] / 1e9:.0f} GFLOP/s, {peak['bytes'] / 1e9:.1f} GB/s copied: "
        f"{products_s * 1e3:.0f} + {memory_s * 1e3:.0f} ms",
        file=sys.stderr,
    )
    return float(batch_size / (products_s + memory_s))


def measure_ours(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from alexnet_core.data.pack import write_pack
    from alexnet_core.training.hooks import Hooks
    from alexnet_core.training.loop import Run
    from alexnet_core.training.run_spec import RunSpec

    torch.set_num_threads(options.threads)
    task, batch_size = TASKS[options.recipe], options.ours
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        pack = write_pack(
            Path(folder) / "pack",
            name="made-up",
            class_names=tuple(map(str, range(task.classes))),
            images_NHWC=generator.integers(0, 256, (task.num_images, task.image_px, task.image_px, 3), dtype=np.uint8),
            labels_N=np.arange(task.num_images) % task.classes,
            split_N=np.where(np.arange(task.num_images) % 100, 0, 2).astype(np.uint8),
            flip_safe=True,
        )
        config = get_recipe(options.recipe).config.with_overrides({"batch_size": batch_size})
        run = Run(RunSpec(config, pack, 0, Path(folder) / "run", recovery_every_s=1e9), Hooks())
        run.state.model.train()
        return measure_steps(run, batch_size, options.seconds) | {"precision": run.setting.precision}


def measure_steps(run: Any, batch_size: int, seconds: float) -> dict[str, float]:
    """Steps as the run takes them; then the same steps with the time before the network measured apart."""
    for _ in range(3):
        run.take_step()
    steps, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds or steps < 5:
        run.take_step()
        steps += 1
    before, augmentation, batches = [0.0], run.augmentation, run.batches.load

    def timed(work: Any) -> Any:
        def measure(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = work(*arguments)
            before[0] += time.perf_counter() - start
            return result

        return measure

    run.augmentation, run.batches.load = timed(augmentation), timed(batches)
    again = time.perf_counter()
    for _ in range(min(steps, 20)):
        run.take_step()
    share = before[0] / (time.perf_counter() - again)
    return {"images_per_s": steps * batch_size / elapsed, "outside_share": share}


if __name__ == "__main__":
    main()
