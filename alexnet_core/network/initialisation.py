"""Sets the initial weights of a network, in the ways of the well-known AlexNets.

All of them draw from torch's global generator, layer after layer.
"""

from __future__ import annotations

import torch
from torch import nn

_BIASED = ("conv2", "conv4", "conv5", "fc6", "fc7")  # the layers whose units should start active
_KERAS_UNIFORM = 0.05  # Keras' "uniform" initialiser: U(-0.05, 0.05)


@torch.no_grad()
def initialise(model: nn.Module, rule: str) -> None:
    """Set kernels, matrices and biases by one of the rules of `TrainConfig.init`.

    Args:
        model: its convolutions are named `conv1` to `conv5`, its fully connected layers `fc6` to `fc8`.
        rule: `torch` leaves everything as PyTorch made it.
    """
    if rule == "torch":
        return
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            name = path.rpartition(".")[2]
            _draw_weight(module, name, rule)
            if module.bias is not None:
                nn.init.constant_(module.bias, _first_bias(name, rule))


def _draw_weight(module: nn.Conv2d | nn.Linear, name: str, rule: str) -> None:
    if rule == "he_normal":
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif rule == "uniform" and isinstance(module, nn.Conv2d):
        nn.init.uniform_(module.weight, -_KERAS_UNIFORM, _KERAS_UNIFORM)
    elif rule in {"glorot", "uniform"}:
        nn.init.xavier_uniform_(module.weight)
    else:
        nn.init.normal_(module.weight, std=_deviation(name, rule))


def _deviation(name: str, rule: str) -> float:
    """Return the standard deviation of a layer.

    Sources: Krizhevsky 2012, section 5; the diary of its run (conv3 to conv5); Caffe's bvlc_alexnet (fc6, fc7).
    """
    if rule == "paper_run" and name in {"conv3", "conv4", "conv5"}:
        return 0.03
    return 0.005 if rule == "caffe" and name in {"fc6", "fc7"} else 0.01


def _first_bias(name: str, rule: str) -> float:
    """Return the initial bias: 1 in the paper, where a network often learns nothing on small data; .1 in Caffe."""
    if name not in _BIASED:
        return 0.0
    return {"paper": 1.0, "paper_run": 1.0, "caffe": 0.1}.get(rule, 0.0)
