"""Looks into a network while it trains: whether it learns, how large its gradients are, which units are dead.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from alexnet_core.config import TrainConfig
from alexnet_core.training.plan import Trouble

_FIRST_LOOK, _LAST_FIRST_LOOK = 50, 500  # steps
_OF_GUESSING = 0.98  # a loss above this share of ln C is that of guessing
_DEAD_SHARE = 0.8  # of a layer's units; some dead ones are normal
_LOOKS = 20  # so many steps' answers count, about those of an epoch
_CLEARLY = 2.0  # standard deviations above what guessing would get
_SAMPLED = 1 << 14  # values of a tensor, for its histogram
_ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid)


@dataclass
class Examination:
    """What was measured in one step."""

    dead: dict[str, Tensor] = field(default_factory=dict)  #: by layer: share of units that were 0 for every image
    gradient: Tensor | None = None
    right: Tensor | None = None  #: how many of the images were answered rightly
    labels: Tensor | None = None  #: how many images of each class there were
    samples: dict[str, Tensor] = field(default_factory=dict)
    """Values of the activations (`activations/relu1`) and of the weights before the step (`weights/conv1.weight`)."""

    @property
    def gradient_norm(self) -> float:
        """The Euclidean norm over all parameters' gradients; NaN before the backward pass."""
        return float(self.gradient) if self.gradient is not None else math.nan

    @property
    def dead_shares(self) -> dict[str, float]:
        """The share of dead ReLU units in each layer."""
        return {name: float(share) for name, share in self.dead.items()}

    def measure_gradients(self, model: nn.Module, *, scale: float = 1.0) -> None:
        """Measure the gradients after the backward pass; `scale` is what the loss was multiplied by."""
        grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norms = torch.stack([norm.float().to(grads[0].device) for norm in torch._foreach_norm(grads)])
        self.gradient = torch.linalg.vector_norm(norms) / scale

    def measure_answers(self, logits_BK: Tensor, labels_B: Tensor) -> None:
        """Measure the answers after the forward pass."""
        self.right = (logits_BK.detach().argmax(dim=1) == labels_B).sum()
        self.labels = torch.bincount(labels_B, minlength=logits_BK.shape[1])

    def describe(self) -> dict[str, float]:
        """Return the values for a point of the training curve."""
        return {"gradient_norm": self.gradient_norm, "dead_relu": max(self.dead_shares.values(), default=0.0)}


class Answers:
    """Whether a network answers better than by always naming the most frequent class, judged by its latest answers."""

    def __init__(self) -> None:
        self._looks: deque[tuple[Tensor, Tensor]] = deque(maxlen=_LOOKS)

    def add(self, examination: Examination) -> None:
        """Add the answers of a step."""
        if examination.right is not None and examination.labels is not None:
            self._looks.append((examination.right, examination.labels))

    def are_better_than_guesses(self, validation_top1: float | None, num_validated: int | None) -> bool:
        """Whether they clearly are, on the training images or in the last validation. False: unknown.

        Args:
            validation_top1: of the last epoch; None: there was none.
            num_validated: images of it.
        """
        if not self._looks:
            return False
        right, labels = (torch.stack(counts).sum(dim=0) for counts in zip(*self._looks, strict=True))
        num_images = int(labels.sum())
        guessing = float(labels.max()) / num_images
        found = [(float(right) / num_images, num_images)]
        if validation_top1 is not None and num_validated:
            found.append((validation_top1, num_validated))
        return any(top1 > guessing + _CLEARLY * math.sqrt(guessing * (1 - guessing) / number) for top1, number in found)


def _name(path: str) -> str:
    """Return a layer's name, such as `relu6`; with its tower if the network has two (`towers`)."""
    parts = path.split(".")
    return f"tower {parts[1]} {parts[-1]}" if parts[0] == "towers" else parts[-1]


@contextmanager
def examining(model: nn.Module, *, wanted: bool) -> Iterator[Examination | None]:
    """Examine one forward pass of the model inside the block.

    It gives None, at no cost, if that is not wanted.

    A unit is a map of a convolution or an output of a fully connected layer; it is dead if it is 0 for every image of
    the batch, everywhere.
    """
    if not wanted:
        yield None
        return
    examination = Examination()
    for path, parameter in model.named_parameters():
        layer, _, kind = path.rpartition(".")
        examination.samples[f"weights/{_name(layer)}.{kind}"] = sample_values(parameter)
    names: dict[nn.Module, str] = {
        module: _name(path) for path, module in model.named_modules() if isinstance(module, _ACTIVATIONS)
    }

    def look(module: nn.Module, _inputs: object, output: Tensor) -> None:
        examination.samples[f"activations/{names[module]}"] = sample_values(output)
        if not isinstance(module, nn.ReLU):
            return
        units_BC = output.detach().flatten(2).amax(dim=2) if output.ndim > 2 else output.detach()
        examination.dead[names[module]] = (units_BC.amax(dim=0) <= 0).float().mean()

    handles = [module.register_forward_hook(look) for module in names]
    try:
        yield examination
    finally:
        for handle in handles:
            handle.remove()


def sample_values(tensor: Tensor) -> Tensor:
    """Copy up to 16,384 values from all over a tensor, float32: enough for a histogram, and fast."""
    values = tensor.detach()
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)  # without a copy of all
    stride = -(-values.numel() // _SAMPLED)
    while stride > 1 and (stride % 2 == 0 or stride % 3 == 0):  # else it would meet some of the maps only
        stride += 1
    return values.reshape(-1)[:: max(1, stride)].float().clone()


def can_judge(step: int, steps_per_epoch: int) -> bool:
    """Whether a network has had time to learn something: an epoch, but at least 50 and at most 500 steps."""
    return step >= min(_LAST_FIRST_LOOK, max(_FIRST_LOOK, steps_per_epoch))


def list_remedies(config: TrainConfig) -> list[str]:
    """List what helps a network that does not learn, besides the learning rate, and is not set already."""
    first_weights = {"paper": "caffe or he_normal", "paper_run": "caffe or he_normal", "caffe": "he_normal"}.get(
        config.init
    )
    remedies = [] if first_weights is None else [f"use init {first_weights} in place of {config.init}"]
    return remedies if config.norm == "batch" else [*remedies, "use norm batch"]


def find_trouble(
    examination: Examination, *, loss: float, step: int, num_classes: int, rate: str,
    is_better_than_guessing: bool = False, remedies: Sequence[str] = (),
) -> list[Trouble]:  # fmt: skip
    """Find a problem and describe it, with advice.

    Args:
        examination: of the latest step.
        loss: mean of the training loss over the epoch so far.
        step: steps done.
        num_classes: guessing among them costs ln C.
        rate: the setting that rules the learning rate, for the hint.
        is_better_than_guessing: the loss of two classes may be near that of guessing although many answers are right.
        remedies: what else may help: `list_remedies`.
    """
    found = []
    worst = max(examination.dead_shares.items(), key=lambda item: item[1], default=("", 0.0))
    sight = f"gradient norm {examination.gradient_norm:.2g}, dead units {worst[1]:.0%} at most"
    others = "".join(f", or {remedy}" for remedy in remedies)
    if loss > _OF_GUESSING * math.log(num_classes) and not is_better_than_guessing:
        found.append(
            Trouble(
                "not_learning",
                f"after {step} steps the loss is {loss:.3f}, that of guessing among {num_classes} classes "
                f"({math.log(num_classes):.3f}; {sight}): change {rate}{others}",
            )
        )
    if worst[1] > _DEAD_SHARE:
        found.append(
            Trouble(
                "dead_units",
                f"after {step} steps {worst[1]:.0%} of the units of {worst[0]} are 0 for every image: lower {rate}"
                f"{others}",
            )
        )
    return found
