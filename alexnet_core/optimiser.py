"""The update rules, and their buffers as named tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointIncompatible


class KerasSGD(torch.optim.Optimizer):
    """SGD as Keras has it, with the learning rate *inside* the velocity.

    v <- m v - lr g, then w <- w + v, or with Nesterov w <- w + m v - lr g. torch's own rule equals it only while the
    learning rate is constant.
    """

    def __init__(self, params: Any, lr: float, momentum: float, nesterov: bool) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            if group["weight_decay"]:
                grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
            velocities = [
                self.state[p].setdefault("momentum_buffer", torch.zeros_like(p, memory_format=torch.preserve_format))
                for p in params
            ]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, grads, alpha=-group["lr"])
            if group["nesterov"]:
                torch._foreach_add_(params, velocities, alpha=group["momentum"])
                torch._foreach_add_(params, grads, alpha=-group["lr"])
            else:
                torch._foreach_add_(params, velocities)


def build_optimiser(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a run; weight decay applies to kernels and matrices, not to biases and norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimiser == "keras_sgd":
        return KerasSGD(groups, config.lr, config.momentum, config.nesterov)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimiser.param_groups:
        group["lr"] = lr


def optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Its buffers, named `<parameter>/<buffer>`."""
    return {
        f"{name}/{buffer}": value.detach()
        for name, parameter in model.named_parameters()
        for buffer, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put buffers back, in each parameter's own memory layout: the fused kernels rely on it.

    Raises:
        CheckpointIncompatible: a buffer belongs to no parameter, or has another shape.
    """
    parameters = dict(model.named_parameters())
    for key, saved in tensors.items():
        name, _, buffer = key.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or (saved.ndim and saved.shape != parameter.shape):
            raise CheckpointIncompatible(f"the training state's {key} fits no parameter: was the network changed?")
        if saved.ndim == 0:
            restored = saved.clone()
        else:
            restored = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(saved)
        optimiser.state[parameter][buffer] = restored.detach().to(parameter.device)
