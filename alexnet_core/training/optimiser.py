"""The update rules, the groups of parameters that share a learning rate, and the rules' buffers as named tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointIncompatible
from alexnet_core.network.linear import WideLinear

_BLOCK_VALUES = 1 << 20  # 4 MB in fp32: few enough blocks, small enough for the last-level cache
_UNIT = "velocity_lr"  # the learning rate in whose unit a velocity is kept


class Uncompiled(torch.optim.Optimizer):
    """Has torch's methods without their wrappers, which load `torch.compile` at the first call. Nothing here uses it.

    To load it takes as long as torch itself: a process would begin to train more than a second later.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class AdamW(Uncompiled, torch.optim.AdamW):
    """torch's AdamW."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # never a loss
        """Update every parameter that has a gradient."""
        inspect.unwrap(torch.optim.AdamW.step)(self)


class BlockSGD(Uncompiled, torch.optim.SGD):
    """torch's SGD, which also accepts bf16 gradients of large matrices and updates their bf16 copies.

    Such a matrix is updated in blocks, so that gradient, matrix, velocity and copy of a block stay in the cache. In any
    precision the memory of such a layer's gradient goes back to the layer, for the next gradient. Kernels in
    channels-last order are updated in the same way, because torch's kernel makes a contiguous copy of their gradients.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, layers: Iterable[WideLinear] = (), fused: bool = True, **options: Any
    ) -> None:
        super().__init__(groups, fused=fused, **options)
        self._layers = {layer.weight: layer for layer in layers if layer.keep_memory()}
        self._block = torch.empty(_BLOCK_VALUES)  # of a gradient, in fp32

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # never a loss
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                grad, layer = parameter.grad, self._layers.get(parameter)
                if grad is None or parameter.device.type != "cpu":
                    continue
                if grad.dtype != parameter.dtype or (not grad.is_contiguous() and grad.stride() == parameter.stride()):
                    self._update_in_blocks(parameter, grad, layer, group)
                    parameter.grad = None
        inspect.unwrap(torch.optim.SGD.step)(self)
        for parameter, layer in self._layers.items():
            if parameter.grad is not None:
                layer.give_back(parameter.grad)
                parameter.grad = None

    def _update_in_blocks(
        self, parameter: Tensor, grad: Tensor, layer: WideLinear | None, group: dict[str, Any]
    ) -> None:
        state, copy = self.state[parameter], layer and layer.find_copy()
        if group["momentum"] and state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        tensors = (parameter.detach(), grad, state.get("momentum_buffer"), copy)
        for weights, low_gradient, velocity, low_weights in zip(*map(_cut_in_blocks, tensors), strict=False):
            gradient = low_gradient
            if gradient.dtype != weights.dtype:
                gradient = self._block[: len(weights)].copy_(gradient)
            sgd(
                [weights], [gradient], [velocity], fused=True,
                weight_decay=group["weight_decay"], momentum=group["momentum"], lr=group["lr"], dampening=0.0,
                nesterov=group["nesterov"], maximize=False,
            )  # fmt: skip
            if low_weights is not None:
                low_weights.copy_(weights)
        if layer is not None:
            layer.give_back(grad)
            if copy is not None:
                layer.trust_copy()


class VelocitySGD(BlockSGD):
    """SGD with the learning rate *inside* the velocity, as in Krizhevsky 2012 and in Keras.

    v <- m v - lr (g + decay w), then w <- w + v, or with Nesterov w <- w + m v - lr (g + decay w).

    torch's rule keeps b with w <- w - lr b. While the learning rate is constant the two rules are the same, with v =
    -lr b. So this class keeps b, which lets torch's one-pass kernel do the work, and rescales it when the learning rate
    changes. With a rate of 0 the present velocity runs out.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # never a loss
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._rescale(parameter, float(group["lr"]))
                    if group["lr"] == 0:
                        self._coast(parameter, group)
        super().step()

    def _rescale(self, parameter: Tensor, lr: float) -> None:
        state = self.state[parameter]
        unit = state.get(_UNIT)
        if lr == 0 or (unit is not None and float(unit) == lr):
            return
        if unit is not None and state.get("momentum_buffer") is not None:
            state["momentum_buffer"].mul_(float(unit) / lr)
        state[_UNIT] = torch.tensor(lr, dtype=torch.float64)

    def _coast(self, parameter: Tensor, group: dict[str, Any]) -> None:
        buffer = self.state[parameter].get("momentum_buffer")
        if buffer is not None:
            buffer.mul_(group["momentum"])
            factor = group["momentum"] if group["nesterov"] else 1.0
            parameter.sub_(buffer, alpha=factor * float(self.state[parameter][_UNIT]))
        parameter.grad = None  # torch's kernel would mix the gradient into the buffer


def _cut_in_blocks(tensor: Tensor | None) -> Iterable[Any]:
    """Yield a tensor's values in memory order, one block at a time; for None yield None again and again."""
    if tensor is None:
        return repeat(None)
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return torch.split(tensor.view(-1), _BLOCK_VALUES)


def build_optimiser(config: TrainConfig, model: nn.Module, *, keep_copies: bool = True) -> torch.optim.Optimizer:
    """Build the optimiser of a run, with one group for each combination of learning rate and weight decay.

    Args:
        config: names the rule.
        model: whose parameters it updates.
        keep_copies: whether it may take gradients of another type than the parameter's: see `WideLinear`.
    """
    groups = _group_parameters(config, model)
    # fused SGD makes its velocities before it sees that a loss scale was too large, and leaves in them what memory held
    fused = config.precision != "fp16"
    if config.optimiser == "adamw":
        return AdamW(groups, lr=config.lr, fused=fused)
    rule = VelocitySGD if config.optimiser == "sgd_lr_in_velocity" else BlockSGD
    layers = [module for module in model.modules() if keep_copies and isinstance(module, WideLinear)]
    return rule(
        groups, layers=layers, fused=fused, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov
    )  # fmt: skip


def _group_parameters(config: TrainConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Group the parameters, in the order of each group's first parameter.

    `factor` multiplies the run's rate, or the group's own `fixed_lr` if it has one; `is_conv1` asks for conv1's rate. A
    batch norm belongs to its convolution, whose bias it holds.
    """
    groups: dict[tuple[float, float, bool, float | None], list[nn.Parameter]] = {}
    factors = {str(layer): factor for layer, factor in config.layer_lr_factors}
    for name, parameter in model.named_parameters():
        layer, kind = name.split(".")[-2:]
        layer = layer.replace("norm", "conv")
        is_kernel = parameter.ndim > 1
        decay = config.weight_decay if is_kernel or config.decay_biases else 0.0
        factor = factors.get(layer, 1.0) * (config.bias_lr_factor if kind == "bias" else 1.0)
        own_rate = bool(config.conv1_lr_steps) and layer == "conv1"
        fixed_lr = config.bias_lr if kind == "bias" else None
        groups.setdefault((decay, factor, own_rate, fixed_lr), []).append(parameter)
    return [
        {
            "params": parameters, "weight_decay": decay, "factor": factor, "is_conv1": own_rate, "fixed_lr": fixed_lr,
        }
        for (decay, factor, own_rate, fixed_lr), parameters in groups.items()
    ]  # fmt: skip


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float, conv1_lr: float | None = None) -> None:
    """Use this learning rate from the next step on.

    Args:
        optimiser: from `build_optimiser`.
        lr: of every layer whose factor is 1.
        conv1_lr: conv1's own; None: it has none. 0 freezes its biases too.
    """
    for group in optimiser.param_groups:
        own = conv1_lr if group["is_conv1"] and conv1_lr is not None else lr
        if group["fixed_lr"] is not None and own != 0:
            own = group["fixed_lr"]
        group["lr"] = own * group["factor"]


def optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimiser's buffers, named `<parameter>/<buffer>`."""
    return {
        f"{name}/{buffer}": value.detach()
        for name, parameter in model.named_parameters()
        for buffer, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Restore the buffers in each parameter's own memory layout, which the fused kernels need.

    Raises:
        CheckpointIncompatible: a buffer belongs to no parameter, or has another shape.
    """
    parameters = dict(model.named_parameters())
    for key, saved in tensors.items():
        name, _, buffer = key.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or (saved.ndim and saved.shape != parameter.shape):
            raise CheckpointIncompatible(
                f"the training state's {key} does not fit any parameter: was the network changed?"
            )
        if saved.ndim == 0:
            restored = saved.clone() if buffer == _UNIT else saved.clone().to(parameter.device)
        else:
            restored = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(saved)
            restored = restored.detach().to(parameter.device)
        optimiser.state[parameter][buffer] = restored
