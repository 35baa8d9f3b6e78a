"""Measures how fast a recipe trains, compared with common alternatives and with what the machine can do.

    .venv/bin/python bench/training_speed.py [--batch-sizes 64 128 512] [--precisions auto fp32 bf16] [--rounds 3]
        [--seconds 10] [--keras PYTHON]
    .venv/bin/python bench/training_speed.py --recipe paper-2012 --batch-sizes 128

The contenders train on the same artificial colour images (32 px for `notes-cifar10`, 256 px for `paper-2012`), each in
a process of its own, one after the other, for the given number of rounds. The best round of each counts, because other
programs on a machine can only slow it down:

- trainyard: the run of `python -m alexnet_core train`, from the pack to the updated weights, with a trainer's memory,
  in each precision asked for; `auto` is what a run takes by itself, and the line says which that was;
- plain PyTorch: DataLoader, torchvision transforms, fp32, torch.optim.SGD (bench/peers/plain_pytorch.py); for
  `paper-2012` with torchvision's AlexNet, which has fewer maps and no response norm;
- Keras: the notes' own pipeline, ImageDataGenerator and model.fit on tensorflow-cpu (bench/peers/notes_keras.py), only
  with --keras PYTHON, a Python that has `tensorflow-cpu` and `scipy`.

The roof is computed from what this machine does in the same run: the products of a step at the peak of a large matrix
product, in the fastest precision for it, plus moving the optimiser's state through memory once. Each precision's peak
is printed, and the share that a run has of the roof of its own precision.
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
from alexnet_core.memory import HUGE_PAGES
from alexnet_core.network.geometry import describe
from alexnet_core.recipes import get_recipe

BENCH = Path(__file__).parent
BYTES_PER_PARAMETER = 20  # weight, velocity and gradient in fp32: all read, the first two written


@dataclass(frozen=True)
class Task:
    """What to train, on what data."""

    classes: int
    num_images: int
    image_px: int
    network: str  #: of the plain peer

    def count_flops(self, config: TrainConfig) -> tuple[float, int]:
        """Count floating-point operations for an image and a step, and parameters.

        Six for a multiplication, padding included.
        """
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
    parser.add_argument("--precisions", nargs="+", choices=["auto", "fp32", "bf16"], default=["auto"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring, for each contender and round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keras", help="the Python that has tensorflow-cpu and scipy")
    parser.add_argument("--ours", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(measure_ours(options)))
        return
    network = TASKS[options.recipe].network
    common = ["--seconds", str(options.seconds)]
    as_a_trainer = ["env", *(f"{name}={value}" for name, value in HUGE_PAGES.items())]
    ours = [*as_a_trainer, sys.executable, __file__, *common, "--threads", str(options.threads)]
    ours += ["--recipe", options.recipe]
    commands = {f"trainyard {name}": [*ours, "--precision", name, "--ours"] for name in options.precisions} | {
        "plain PyTorch": [sys.executable, str(BENCH / "peers" / "plain_pytorch.py"), *common, "--network", network],
    }
    if options.keras:
        commands["Keras"] = [options.keras, str(BENCH / "peers" / "notes_keras.py"), *common]
    for batch_size in options.batch_sizes:
        compare(batch_size, commands, options)


def compare(batch_size: int, commands: dict[str, list[str]], options: argparse.Namespace) -> None:
    best: dict[str, dict[str, Any]] = {}
    roofs: dict[str, float] = {}
    for _ in range(options.rounds):
        for precision, roof in measure_roofs(batch_size, options).items():
            roofs[precision] = max(roof, roofs.get(precision, 0.0))
        for name, command in commands.items():
            answer = run([*command, str(batch_size)])
            if answer["images_per_s"] > best.get(name, {"images_per_s": 0.0})["images_per_s"]:
                best[name] = answer
    top = max(roofs, key=lambda precision: roofs[precision])
    found = ", ".join(f"{precision} {roof:.0f}" for precision, roof in roofs.items())
    print(f"batch {batch_size}: roof {roofs[top]:.0f} images/s, by products in {top} (roofs: {found})")
    for name, answer in best.items():
        speed = answer["images_per_s"]
        line = f"  {name:14} {speed:6.0f} images/s, {speed / roofs[top]:4.0%} of the roof"
        if "precision" in answer:
            line += f", {speed / roofs[answer['precision']]:4.0%} of that of its own precision"
            line += f", {answer['outside_share']:.1%} of a step outside the network"
            line += f": {answer['precision']}, {answer['reason']}"
        else:
            others = [f"{best[own]['images_per_s'] / speed:.2f} ({own})" for own in best if own.startswith("trainyard")]
            line += f"; times as fast: {', '.join(others)}"
        print(line, flush=True)


def run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


PEAK = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))

def best(work, times=12, limit_s=2.0):
    found, began = [], time.perf_counter()
    while len(found) < times and (len(found) < 1 or time.perf_counter() - began < limit_s):
        start = time.perf_counter(); work(); found.append(time.perf_counter() - start)
    return min(found)

flops = {}
for name in ("fp32", "bf16", "fp16"):
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    for side in (128, 256, 512, 1024, 2048):  # what has no instructions of its own is given up before it takes minutes
        a = torch.randn(side, side).to(dtype)
        flops[name] = 2 * side**3 / best(lambda: a @ a)
        if 2 * (2 * side) ** 3 / flops[name] > 1.0:
            break
b, c = torch.randn(25_000_000), torch.empty(25_000_000)
print(json.dumps({"flops": flops, "bytes": 200e6 / best(lambda: c.copy_(b))}))
"""


def measure_roofs(batch_size: int, options: argparse.Namespace) -> dict[str, float]:
    """Return images a second of a step that is only its products at peak and a pass over the optimiser's state."""
    peak = run([sys.executable, "-c", PEAK, str(options.threads)])
    flops, num_parameters = TASKS[options.recipe].count_flops(get_recipe(options.recipe).config)
    memory_s = num_parameters * BYTES_PER_PARAMETER / peak["bytes"]
    found = ", ".join(f"{precision} {value / 1e9:.3g}" for precision, value in peak["flops"].items())
    print(f"  peaks in GFLOP/s: {found}; {peak['bytes'] / 1e9:.1f} GB/s copied", file=sys.stderr)
    return {
        precision: float(batch_size / (batch_size * flops / value + memory_s))
        for precision, value in peak["flops"].items()
    }


def measure_ours(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from alexnet_core.data.pack_draft import write_pack
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
        overrides = {"batch_size": batch_size, "precision": options.precision}
        config = get_recipe(options.recipe).config.with_overrides(overrides)
        run = Run(RunSpec(config, pack, 0, Path(folder) / "run", recovery_every_s=1e9), Hooks())
        run.state.model.train()
        chosen = {"precision": run.setting.precision, "reason": run.setting.precision_reason}
        return measure_steps(run, batch_size, options.seconds) | chosen


def measure_steps(run: Any, batch_size: int, seconds: float) -> dict[str, float]:
    """Time steps as a run makes them; then time the same steps again, with the part before the network apart."""
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
