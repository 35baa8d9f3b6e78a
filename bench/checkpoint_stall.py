"""Measures what an epoch's checkpoint costs a run in time and memory, compared with torch.save.

    .venv/bin/python bench/checkpoint_stall.py [--batch-size 64] [--rounds 3] [--seconds 3] [--recipe notes-cifar10]

The contenders train a recipe on Fashion-MNIST, each in a process of its own and with as many processes as rounds. They
differ only in what is written at the end of an epoch, to the disk of --folder:

- nothing: the same, but no checkpoint;
- trainyard: the run's own epoch checkpoint: hashed, synced file by file and renamed into place;
- torch.save: state_dicts of network and optimiser into one file, synced and renamed into place.

The stall is the time of an epoch's end without its validation, plus the time by which the ten steps after it are slower
than ten of the steps before. The time of an epoch is computed from the speed of its steps as measured here, without its
end. Peak memory is the process's high-water mark (VmHWM), validation included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTENDERS = ("nothing", "trainyard", "torch.save")
EPOCHS_A_PROCESS = 2
STEPS_AFTER = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="notes-cifar10")
    parser.add_argument("--batch-size", type=int, help="default: the recipe's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of training before each of two epochs' ends")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="where packs are kept, as in the command line"
    )
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's folder for temporary files")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.contender:
            print(json.dumps(measure(options, Path(folder))))
        else:
            compare(options, Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> None:
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder), "--contender"]
    for _ in range(options.rounds):
        for name in CONTENDERS:
            done = subprocess.run([*command, name], capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            answers[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    every = [answer for several in answers.values() for answer in several]
    speed = statistics.median(answer["images_per_s"] for answer in every)
    num_images = every[0]["num_images"]
    epoch_s = num_images / speed
    validation_s = statistics.median(second for answer in every for second in answer["validation_s"])
    print(f"{speed:.0f} images/s: {num_images} images take {epoch_s:.1f} s, validation {validation_s:.2f} s more")
    idle_bytes = statistics.median(answer["peak_bytes"] for answer in answers["nothing"])
    for name, several in answers.items():
        stalls = sorted(stall for answer in several for stall in answer["stall_s"])
        stall, size_bytes = statistics.median(stalls), several[0]["size_bytes"]
        more_bytes = statistics.median(answer["peak_bytes"] for answer in several) - idle_bytes
        print(
            f"  {name:10} stall {stall:.3f} s ({stalls[0]:.3f} to {stalls[-1]:.3f}), {stall / epoch_s:.2%} of it; "
            f"{size_bytes / 1e6:.0f} MB; peak {(idle_bytes + more_bytes) / 1e6:.0f} MB ({more_bytes / 1e6:+.0f})"
        )


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import torch

    from alexnet_core.commands.datasets import open_dataset
    from alexnet_core.recipes import get_recipe
    from alexnet_core.training.hooks import Hooks
    from alexnet_core.training.loop import Run
    from alexnet_core.training.run_spec import RunSpec

    torch.set_num_threads(options.threads)
    pack = open_dataset("fashion-mnist", data_dir=options.data_dir, source=None)
    changes = {"batch_size": options.batch_size} if options.batch_size else {}
    config = get_recipe(options.recipe).config.with_overrides(changes)
    run: Any = Run(RunSpec(config, pack, 0, folder / "run", recovery_every_s=1e9), Hooks())
    if options.contender == "nothing":
        run.save = lambda *args, **kwargs: None
    elif options.contender == "torch.save":
        run.save = lambda *args, **kwargs: save_as_most_do(run, folder / "run" / f"{run.state.counts.step}.pt")
    assert pack.facts.num_train is not None and pack.facts.num_val is not None, "a pack knows its counts"  # noqa: PT018
    validations: list[float] = []
    run._validate = timed(run._validate, validations)
    run.state.model.train()
    take_steps(run, 5)
    stalls, speeds = [], []
    for _ in range(EPOCHS_A_PROCESS):
        step_s = statistics.median(take_steps(run, STEPS_AFTER, options.seconds))
        speeds.append(config.batch_size / step_s)
        began = time.perf_counter()
        run.finish_epoch()
        end_s = time.perf_counter() - began - validations[-1]
        stalls.append(end_s + sum(take_steps(run, STEPS_AFTER)) - STEPS_AFTER * step_s)
    return {
        "images_per_s": statistics.mean(speeds), "num_images": pack.facts.num_train + pack.facts.num_val,
        "stall_s": stalls, "validation_s": validations, "peak_bytes": peak_bytes(),
        "size_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // EPOCHS_A_PROCESS,
    }  # fmt: skip


def take_steps(run: Any, at_least: int, seconds: float = 0.0) -> list[float]:
    """Return the seconds of each step."""
    times: list[float] = []
    while len(times) < at_least or sum(times) < seconds:
        timed(run.take_step, times)()
    return times


def timed(work: Callable[[], Any], seconds: list[float]) -> Callable[[], Any]:
    """Wrap a function so that it records its time."""

    def measured() -> Any:
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
        return result

    return measured


def save_as_most_do(run: Any, path: Path) -> None:
    import torch

    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        torch.save({"model": run.state.model.state_dict(), "optimiser": run.state.optimiser.state_dict()}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def peak_bytes() -> int:
    """Return the most memory that this process has had in RAM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
