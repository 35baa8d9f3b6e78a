"""Estimates how long a run will take, and says what the estimate is based on.

The best basis is the time that the owner's own finished runs with the same recipe, network and batch took for an image.
The next is any of the owner's finished runs, scaled by the multiplications of an image. If there are none, and the only
workers are CPUs of the very machine that this process runs on, it is what this machine does in a matrix product. If
that is not known either, there is no estimate.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.orm import Session

from alexnet_core.config import DatasetFacts, TrainConfig
from alexnet_core.errors import ConfigError
from alexnet_core.network.costs import compute_costs
from alexnet_core.training.plan import count_training_images
from api.previews.machine_speed import measure_flops_per_s
from api.schemas.runs.previews import Basis
from trainyard.jobs.finished_runs import FinishedRun, list_finished_runs
from trainyard.scheduling.workers import list_live_devices

_SPREAD = 1.25  # of the same run on the same machine: other programs take their share of it
_SCALED_SPREAD = 3.0  # from one network to another: products of other shapes have other speeds
#: Speed of training as a multiple of that of a large matrix product in fp32 (docs/benchmarks.md): a small network
#: reaches less than a tenth of it, a wide one in bf16 four times as much.
_SHARES = (0.07, 4.0)
_AROUND_S = (2.0, 30.0)  # before the first and after the last epoch, where it is not known


@dataclass(frozen=True)
class Estimate:
    """A range of seconds, and its basis."""

    low_s: float
    high_s: float
    basis: Basis
    num_runs: int  #: how many runs were measured
    devices: tuple[str, ...]  #: on which


@dataclass(frozen=True)
class Plan:
    """The run to be estimated."""

    recipe: str
    config: TrainConfig
    facts: DatasetFacts

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return self.config.channels or self.facts.channels

    @cached_property
    def flops_per_image(self) -> int:
        """Of a training step."""
        return compute_costs(self.config, self.facts.num_classes, self.channels).flops_per_image

    @property
    def likeness(self) -> tuple[object, ...]:
        """What is equal for runs of which one's time tells the other's."""
        return (self.recipe, self.flops_per_image, self.config.batch_size, self.config.precision, self.config.image_px)


def estimate_time(session: Session, owner: str, plan: Plan) -> Estimate | None:
    """Estimate how long a run will take from its first claim to its end. None: there is no basis for an estimate.

    Args:
        session: a reading one.
        owner: whose finished runs count.
        plan: the run.
    """
    images = count_training_images(plan.config, plan.facts)
    if images is None:
        return None
    images *= plan.config.epochs
    runs = [known for run in list_finished_runs(session, owner) if (known := _Known.of(run)) is not None]
    alike = [known for known in runs if known.plan.likeness == plan.likeness]
    if alike:
        return _from_runs(alike, [known.image_s * images for known in alike], _SPREAD, Basis.MEASURED)
    if runs:
        scaled = [known.image_s * images * plan.flops_per_image / known.plan.flops_per_image for known in runs]
        return _from_runs(runs, scaled, _SCALED_SPREAD, Basis.SCALED)
    devices = list_live_devices(session)
    if not devices or devices != {(socket.gethostname(), "cpu")}:
        return None
    flops, speed = plan.flops_per_image * images, measure_flops_per_s()
    slowest, fastest = (share * speed for share in _SHARES)
    low, high = flops / fastest + _AROUND_S[0], flops / slowest + _AROUND_S[1]
    return Estimate(low, high, Basis.MACHINE, 0, ("cpu",))


@dataclass(frozen=True)
class _Known:
    """A finished run, and what it took for an image."""

    run: FinishedRun
    plan: Plan
    image_s: float

    @classmethod
    def of(cls, run: FinishedRun) -> _Known | None:
        """Build it. None: it is of a release with other options, or its dataset's size is not known."""
        try:
            plan = Plan(
                run.recipe,
                TrainConfig.model_validate_json(json.dumps(run.config)),
                DatasetFacts.model_validate(run.facts),
            )
            images = count_training_images(plan.config, plan.facts)
            has_network = plan.flops_per_image > 0
        except (ConfigError, ValueError):
            return None
        return cls(run, plan, run.epochs_s / (run.epochs * images)) if images and has_network else None


def _from_runs(runs: Sequence[_Known], seconds: Sequence[float], spread: float, basis: Basis) -> Estimate:
    around = [known.run.around_s for known in runs if known.run.around_s is not None]
    first, last = (min(around), max(around)) if around else _AROUND_S
    devices = tuple(sorted({known.run.device for known in runs} - {""}))
    return Estimate(min(seconds) / spread + first, max(seconds) * spread + last, basis, len(runs), devices)
