"""Looks into a network while it trains: does it learn, how large are its gradients, which of its units are dead.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

_FIRST_LOOK, _LAST_FIRST_LOOK = 50, 500  # steps
_OF_GUESSING = 0.98  # a loss above this share of ln C is that of guessing
_DEAD_SHARE = 0.8  # of a layer's units; some dead ones are normal


@dataclass(frozen=True)
class Trouble:
    """Something that a user should know; it does not end the run."""

    code: str
    message: str


@dataclass
class Examination:
    """One step under the lens."""

    dead: dict[str, Tensor] = field(default_factory=dict)  #: by layer: share of units that were 0 for every image
    gradient: Tensor | None = None

    @property
    def gradient_norm(self) -> float:
        """Euclidean norm over all parameters' gradients; NaN before the backward pass."""
        return float(self.gradient) if self.gradient is not None else math.nan

    @property
    def dead_shares(self) -> dict[str, float]:
        """Share of dead ReLU units by layer."""
        return {name: float(share) for name, share in self.dead.items()}

    def measure_gradients(self, model: nn.Module, *, scale: float = 1.0) -> None:
        """Call after the backward pass; `scale` is what the loss was multiplied by."""
        grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norms = torch.stack([norm.float().to(grads[0].device) for norm in torch._foreach_norm(grads)])
        self.gradient = torch.linalg.vector_norm(norms) / scale

    def describe(self) -> dict[str, float]:
        """For a point of the training curve."""
        return {"gradient_norm": self.gradient_norm, "dead_relu": max(self.dead_shares.values(), default=0.0)}


def _name(path: str) -> str:
    """A layer's, as `relu6`; with its tower, where the network is two (`towers`)."""
    parts = path.split(".")
    return f"tower {parts[1]} {parts[-1]}" if parts[0] == "towers" else parts[-1]


@contextmanager
def examining(model: nn.Module, *, wanted: bool) -> Iterator[Examination | None]:
    """While this is open, one forward pass of the model is looked into; None if not wanted, at no cost.

    A unit is a map of a convolution or an output of a fully connected layer; it is dead if it is 0 for every image of
    the batch, everywhere.
    """
    if not wanted:
        yield None
        return
    examination = Examination()

    names: dict[nn.Module, str] = {
        module: _name(path) for path, module in model.named_modules() if isinstance(module, nn.ReLU)
    }

    def look(module: nn.Module, _inputs: object, output: Tensor) -> None:
        units_BC = output.detach().flatten(2).amax(dim=2) if output.ndim > 2 else output.detach()
        examination.dead[names[module]] = (units_BC.amax(dim=0) <= 0).float().mean()

    handles = [module.register_forward_hook(look) for module in names]
    try:
        yield examination
    finally:
        for handle in handles:
            handle.remove()


def can_judge(step: int, steps_per_epoch: int) -> bool:
    """Whether a network has had time to learn something: an epoch of 50 to 500 steps, or that many of its steps."""
    return step >= min(_LAST_FIRST_LOOK, max(_FIRST_LOOK, steps_per_epoch))


def find_trouble(examination: Examination, *, loss: float, step: int, num_classes: int, rate: str) -> list[Trouble]:
    """What is wrong, with a hint.

    Args:
        examination: of the latest step.
        loss: mean of the training loss over the epoch so far.
        step: steps done.
        num_classes: guessing among them costs ln C.
        rate: the setting that rules the learning rate, for the hint.
    """
    found = []
    worst = max(examination.dead_shares.items(), key=lambda item: item[1], default=("", 0.0))
    sight = f"gradient norm {examination.gradient_norm:.2g}, dead units {worst[1]:.0%} at most"
    if loss > _OF_GUESSING * math.log(num_classes):
        found.append(
            Trouble(
                "not_learning",
                f"after {step} steps the loss is {loss:.3f}, that of guessing among {num_classes} classes "
                f"({math.log(num_classes):.3f}; {sight}): change {rate}, or use init caffe or he_normal in place of "
                "paper, or norm batch",
            )
        )
    if worst[1] > _DEAD_SHARE:
        found.append(
            Trouble(
                "dead_units",
                f"after {step} steps {worst[1]:.0%} of the units of {worst[0]} are 0 for every image: lower {rate}, "
                "or use init he_normal or norm batch",
            )
        )
    return found
