"""The input of a training run, what follows from it before the first step, and the result of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from alexnet_core.environment import describe_environment
from alexnet_core.network.checkpoint_files import read_metadata
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.precision import Precision, choose_precision
from alexnet_core.training.plan import Trouble, choose_split
from alexnet_core.training.schedule import conv1_learning_rate, describe_rate, learning_rate

if TYPE_CHECKING:
    from alexnet_core.config import TrainConfig
    from alexnet_core.data.pack import Pack
    from alexnet_core.training.world import World


@dataclass(frozen=True)
class RunSpec:
    """What to train, on which data, and where to store the results."""

    config: TrainConfig
    pack: Pack
    seed: int
    checkpoint_root: Path
    job_id: str = "local"
    lease_epoch: int = 0
    device: str = "cpu"
    recovery_every_s: float = 60.0
    resume_from: Path | None = None  #: a checkpoint of this very run
    best_checkpoint: Path | None = None
    init_from: Path | None = None  #: a checkpoint whose weights a new run starts with
    max_runtime_s: float | None = None  #: of training, over all attempts
    evaluation_path: Path | None = None  #: the file that the evaluation of the best checkpoint is appended to
    evaluation_was_cut_off: bool = False  #: an earlier attempt was lost in the middle of it
    failpoints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What follows from a spec on the device and processes that it is trained on."""

    config: TrainConfig
    device: torch.device
    precision: str  #: `fp32`, `bf16` or `fp16`
    precision_reason: str  #: why it is that one
    environment: dict[str, Any]  #: what the bits depend on besides config, data and seed
    channels: int
    preprocessing: Preprocessing
    validate_on: str  #: the split that chooses the best epoch, or `none`
    trouble_of_split: Trouble | None  #: what whoever reads the results must know of that choice
    steps_per_epoch: int

    @classmethod
    def of(cls, spec: RunSpec, world: World, steps_per_epoch: int) -> Self:
        """Work out the setting of a spec.

        Raises:
            ConfigError: the device can't compute in what the config asks for, or no split is left to validate on.
        """
        config, pack, device = spec.config, spec.pack, torch.device(world.device)
        precision = world.first(lambda: _choose_precision(spec, device))
        validate_on, trouble = choose_split(config, pack.facts)
        return cls(
            config, device, precision.name, precision.reason,
            environment=describe_environment(device, precision.name) | world.describe(),
            channels=config.channels or pack.facts.channels,
            preprocessing=Preprocessing.of(config, pack),
            validate_on=validate_on,
            trouble_of_split=trouble,
            steps_per_epoch=steps_per_epoch,
        )  # fmt: skip

    @property
    def steps(self) -> int:
        """The number of steps of the whole run, unless it ends early."""
        return self.steps_per_epoch * self.config.epochs

    def is_at_interval(self, step: int) -> bool:
        """Whether the curves get a point after this number of steps."""
        return step % (self.config.interval_steps or max(1, self.steps_per_epoch // 20)) == 0

    def learning_rate(self, step: int, history: Sequence[Mapping[str, float]]) -> float:
        """Return the network's learning rate in a step, counted from 0."""
        return learning_rate(self.config, step, self.steps_per_epoch, history)

    def conv1_learning_rate(self, step: int) -> float | None:
        """Return the first convolution's own learning rate in a step. None: it has the network's."""
        return conv1_learning_rate(self.config, step, self.steps_per_epoch)

    def describe_rate(self, steps_done: int) -> str:
        """Return the option that sets the learning rate and its value, for advice after this number of steps."""
        return describe_rate(self.config, max(0, steps_done - 1), self.steps_per_epoch)


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `test` is None if it was stopped or the dataset has no test split."""

    outcome: str  #: `succeeded`, `stopped` (it was told to) or `max_runtime`
    step: int
    epoch: int
    weights_sha256: str
    test: dict[str, Any] | None  #: with `chosen_on`: the split that chose the epoch, or `none`
    last_checkpoint: Path | None


def _choose_precision(spec: RunSpec, device: torch.device) -> Precision:
    begun_in = None
    if spec.resume_from is not None:
        begun_in = (read_metadata(spec.resume_from)["environment"] or {}).get("precision")
    return choose_precision(spec.config.precision, device, begun_in=begun_in)
