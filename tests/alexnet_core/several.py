"""What each of several processes does in the tests of `world` and `towers`; the results go to a file a process.

    python -m tests.alexnet_core.several SCENARIO FOLDER

with torchrun's variables in the environment.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import open_pack
from alexnet_core.errors import CoreError
from alexnet_core.messages import Interval, Started
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.network.model import build_model
from alexnet_core.network.towers import ProcessLink, TowerNetwork, split_tensors, split_towers
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec
from alexnet_core.training.world import World, join
from tests.alexnet_core.toy import CONFIG, QuietHooks

#: 100 training images: steps of 33, 33, 33 and 1, so that two processes have 17 and 16, and at the end 1 and none
SHARED = CONFIG.with_overrides({"norm": "none", "dropout": 0.0, "batch_size": 33, "init": "he_normal", "lr": 0.05,
                                "interval_steps": 1})  # fmt: skip
STEPS = 12
STOPS = (1, 3, 4, 6)  # calls of should_stop: after a step, and after the first epoch's last one
TOWERS = TrainConfig(
    widths=(8, 8, 12, 12, 8), kernels=(3, 3, 3, 3, 3), fc_widths=(16, 12), image_px=12, groups=2, norm="lrn",
    dropout=0.0, init="he_normal", batch_size=25, epochs=2, lr=0.02, precision="fp32", interval_steps=1,
)  # fmt: skip


class Recorder(QuietHooks):
    """Keeps the points of the training curve."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.points: list[Interval] = []
        self.is_started = False

    def on_started(self, report: Started) -> None:
        self.is_started = True

    def on_interval(self, report: Interval) -> None:
        self.points.append(report)


class Lamp(Recorder):
    """Says when training has begun, then goes on."""

    def on_first_step(self) -> None:
        print("training", flush=True)


def train(
    world: World, folder: Path, config: TrainConfig, stop_after: int | None = None, **spec: Any
) -> dict[str, Any]:
    hooks = Recorder(stop_after)
    result = Run(RunSpec(config, open_pack(folder / "toy"), 7, **spec), hooks, world=world).train()
    losses = [point.train_loss for point in hooks.points]
    return {
        "outcome": result.outcome, "step": result.step, "sha": result.weights_sha256, "test": result.test,
        "losses": losses, "norms": [point.gradient_norm for point in hooks.points], "epochs": hooks.epochs,
        "checkpoint": str(result.last_checkpoint), "was_told": hooks.is_started,
    }  # fmt: skip


def compare_runs(world: World, folder: Path, config: TrainConfig, stops: tuple[int, ...] = STOPS) -> dict[str, Any]:
    """Twice undisturbed; stopped and gone on; told to stop in the other process only."""
    results = {name: train(world, folder, config, checkpoint_root=folder / name) for name in ("whole", "again")}
    for after in stops:
        root = folder / f"stopped-{after}"
        mine = after if world.rank == after % world.size else None  # any process may be told
        results[f"stopped-{after}"] = stopped = train(world, folder, config, mine, checkpoint_root=root)
        results[f"resumed-{after}"] = train(
            world, folder, config, checkpoint_root=root, resume_from=Path(stopped["checkpoint"]), lease_epoch=1
        )
    return results


def data_parallel(world: World, folder: Path) -> dict[str, Any]:
    results = compare_runs(world, folder, SHARED)
    results["environment"] = load_checkpoint(Path(results["whole"]["checkpoint"])).metadata["environment"]
    results["dropout"] = train(world, folder, SHARED.with_overrides({"dropout": 0.5, "epochs": 1}),
                               checkpoint_root=folder / "dropout")  # fmt: skip
    results["timed"] = train(world, folder, SHARED, checkpoint_root=folder / "timed", max_runtime_s=1e-9)
    wild = SHARED.with_overrides({"lr": 10.0, "momentum": 0.99, "mean": (0.0,), "std": (1e-6,), "interval_steps": 100})
    results["diverged"] = catch(lambda: train(world, folder, wild, checkpoint_root=folder / "wild"))
    (folder / "a-file").touch()
    results["full"] = catch(lambda: fail_to_save(world, folder))
    results["batch_norm"] = catch(lambda: train(world, folder, CONFIG, checkpoint_root=folder / "norm"))
    return results


def fail_to_save(world: World, folder: Path) -> dict[str, Any]:
    """The first process alone meets a full disk."""
    from alexnet_core.network import checkpoint

    checkpoint._check_free_space = refuse  # only called where something is written
    return train(world, folder, SHARED, checkpoint_root=folder / "full")


def refuse(parent: Path, size_bytes: int) -> None:
    from alexnet_core.errors import DiskFull

    raise DiskFull(f"no room at {parent}")


def three(world: World, folder: Path) -> dict[str, Any]:
    return compare_runs(world, folder, SHARED, stops=(1,))


def towers(world: World, folder: Path) -> dict[str, Any]:
    results = compare_runs(world, folder, TOWERS)
    results["differences"] = {
        f"{norm} {classes} {batch}": compare_towers(world.rank, norm, classes, batch)
        for norm, classes, batch in (("lrn", 5, 5), ("lrn", 4, 1), ("batch", 7, 5), ("none", 3, 1))
    }
    results["whole"]["environment"] = load_checkpoint(Path(results["whole"]["checkpoint"])).metadata["environment"]
    return results


def compare_towers(rank: int, norm: str, classes: int, batch: int) -> float:
    """The largest difference between this tower and the plain network: logits and every gradient, in float64."""
    torch.manual_seed(1)
    plain = build_model(TOWERS.with_overrides({"norm": norm}), classes, 3).double()
    network = TowerNetwork(split_towers(plain), ProcessLink(rank, torch.device("cpu")))
    x, labels = torch.randn(batch, 3, 12, 12, dtype=torch.float64), torch.arange(batch) % classes
    logits = [step(model, x, labels) for model in (plain, network)]
    expected = split_tensors(_gradients(plain), rank)
    found = {name.split(".", 2)[2]: gradient for name, gradient in _gradients(network).items()}
    assert found.keys() == expected.keys()
    gaps = [(found[name] - expected[name]).abs().max() for name in found]
    return float(torch.stack([*gaps, (logits[0] - logits[1]).abs().max()]).max())


def _gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """By the parameters' names; every parameter has one."""
    gradients = {name: value.grad for name, value in model.named_parameters()}
    assert None not in gradients.values()
    return {name: gradient for name, gradient in gradients.items() if gradient is not None}


def step(model: torch.nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    logits: Tensor = model(x)
    (F.cross_entropy(logits, labels) * 100).backward()
    return logits.detach()


def endless(world: World, folder: Path) -> dict[str, Any]:
    spec = RunSpec(SHARED.with_overrides({"epochs": 1000}), open_pack(folder / "toy"), 7, folder / "endless")
    Run(spec, Lamp(), world=world).train()
    return {}


def catch(action: Callable[[], Any]) -> str:
    try:
        action()
    except CoreError as exc:
        return exc.code
    return "nothing"


def main(scenario: str, folder: Path) -> None:
    torch.set_num_threads(1)
    with join(os.environ, towers=scenario == "towers") as world:
        action = {"data": data_parallel, "three": three, "towers": towers, "endless": endless}[scenario]
        results = action(world, folder)
        (folder / f"{scenario}-{world.rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
