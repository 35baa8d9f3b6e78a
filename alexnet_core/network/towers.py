"""Runs the network of `groups=2` as two towers with half of the maps and units each.

They are on two devices or in two processes.

Krizhevsky 2012, section 3.2 and Figure 2: conv2, conv4 and conv5 read only the maps of their own tower, conv3 and the
fully connected layers those of both. The function is the same as on one device: where the response normalisation
crosses the border between the towers, the maps next to it are exchanged. The paper does not mention this, and the norms
of the 2012 run stay within a tower (`lrn_within_tower`). Gradients are the same too. Each tower draws its own dropout,
so only without dropout is a run equal to one on a single device.

A tower's parameters are rows of the whole network's: the first half, rounded up, or the rest. `split_towers` and
`join_towers` convert between the two without rounding, so checkpoints are always those of the whole network.

B batch, C channels, H height, W width, I inputs, K classes
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from alexnet_core.errors import ConfigError
from alexnet_core.network.geometry import TOWER_CONVS
from alexnet_core.network.model import AlexNet
from alexnet_core.network.normalisation import LocalResponseNorm

_JOINING = ("conv3", "fc6", "fc7", "fc8")  # the layers that read both towers


class Link(Protocol):
    """How the towers exchange values; the backward pass uses the same way back."""

    devices: dict[int, torch.device]  #: of the towers that live in this process

    def gather(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Join the values of both towers along dimension 1, for each tower of this process.

        Args:
            parts: of each tower of this process; the other's has the same shape.
        """
        ...

    def finish(self, parts: Sequence[Tensor], num_classes: int) -> Tensor:
        """Return the logits_BK of all classes, once in each process. Every process computes the same loss from them."""
        ...


class DeviceLink:
    """Links two towers in this process, each on its own device."""

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self.devices = dict(enumerate(devices))

    def gather(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """See `Link`."""
        return [torch.cat([part.to(device) for part in parts], dim=1) for device in self.devices.values()]

    def finish(self, parts: Sequence[Tensor], num_classes: int) -> Tensor:
        """See `Link`; the result is on the first device."""
        return torch.cat([part.to(self.devices[0]) for part in parts], dim=1)


class ProcessLink:
    """Links one tower in each of two processes of `torch.distributed`."""

    def __init__(self, rank: int, device: torch.device) -> None:
        self.devices = {rank: device}
        self._rank = rank

    def gather(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """See `Link`."""
        [part] = parts
        return [_Gather.apply(part, self._rank, True)]

    def finish(self, parts: Sequence[Tensor], num_classes: int) -> Tensor:
        """See `Link`."""
        [part] = parts
        widest = _first_half(num_classes)
        padded = F.pad(part, (0, widest - part.shape[1]))
        logits_BK: Tensor = _Gather.apply(padded, self._rank, False)[:, :num_classes]
        return logits_BK


class _Gather(torch.autograd.Function):
    """Joins the values of both processes.

    If the two processes use the joined values in different ways, the gradient is the sum of both processes' gradients.
    If they use them in the same way (`differs` is false), it is that of either.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, rank: int, differs: bool) -> Tensor:
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(2)]
        dist.all_gather(parts, part)
        ctx.own, ctx.differs = slice(rank * part.shape[1], (rank + 1) * part.shape[1]), differs
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grad = grads[0]
        if ctx.differs:
            grad = grad.clone(memory_format=torch.contiguous_format)
            dist.all_reduce(grad)
        return grad[:, ctx.own], None, None


class TowerNetwork(nn.Module):
    """The towers of this process, which compute the logits of all classes from images."""

    def __init__(self, halves: Sequence[AlexNet], link: Link) -> None:
        super().__init__()
        self._link = link
        self._num_classes = sum(len(half.state_dict()["classifier.fc8.weight"]) for half in halves)
        self.towers = nn.ModuleDict({str(n): halves[n].to(device) for n, device in link.devices.items()})

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK of standardised images, on the first device of this process."""
        parts = [x_BCHW.to(device) for device in self._link.devices.values()]
        parts = [part.flatten(1) for part in self._apply_all("features", parts)]
        return self._link.finish(self._apply_all("classifier", parts), self._num_classes)

    def _apply_all(self, block: str, parts: list[Tensor]) -> list[Tensor]:
        rows = zip(*(tower.get_submodule(block).named_children() for tower in self.towers.values()), strict=True)
        for row in rows:
            name, layers = row[0][0], [layer for _, layer in row]
            if name in _JOINING:
                parts = self._link.gather(parts)
            if isinstance(layers[0], LocalResponseNorm) and layers[0].crosses_towers:
                parts = self._normalise(layers, parts, layers[0].form.size // 2)
            else:
                parts = [layer(part) for layer, part in zip(layers, parts, strict=True)]
        return parts

    def _normalise(self, layers: Sequence[nn.Module], parts: Sequence[Tensor], reach: int) -> list[Tensor]:
        """Normalise across the border too: with the other tower's nearest maps, which are then removed again."""
        own = parts[0].shape[1]
        reach = min(reach, own)
        numbers = list(self._link.devices)
        nearest = [part[:, :reach] if n else part[:, -reach:] for n, part in zip(numbers, parts, strict=True)]
        done = []
        for n, layer, part, border in zip(numbers, layers, parts, self._link.gather(nearest), strict=True):
            wider = [border[:, :reach], part] if n else [part, border[:, reach:]]
            done.append(layer(torch.cat(wider, dim=1)).narrow(1, reach if n else 0, own))
        return done


def split_towers(model: AlexNet) -> tuple[AlexNet, AlexNet]:
    """Return both halves of a network as copies.

    Raises:
        ConfigError: its layers read all maps: it was not built with `groups` 2.
    """
    for number in TOWER_CONVS:
        if model.get_submodule(f"features.conv{number}").groups != 2:
            raise ConfigError("two towers need a network with groups 2", param="overrides.groups")
    return _build_half(model, 0), _build_half(model, 1)


def split_tensors(tensors: Mapping[str, Tensor], tower: int) -> dict[str, Tensor]:
    """Return a tower's rows of the whole network's named tensors; single numbers are the same in both."""
    return {name: _rows(value, tower) for name, value in tensors.items()}


def join_towers(halves: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join the named tensors of both towers to those of the whole network: weights, or an optimiser's buffers."""
    first, second = halves
    return {
        name: torch.cat([value, second[name].to(value.device)]) if value.ndim else value
        for name, value in first.items()
    }


def _build_half(model: AlexNet, tower: int) -> AlexNet:
    half = copy.deepcopy(model)
    with torch.no_grad():
        for module in half.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(_rows(parameter, tower)))
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, _rows(buffer, tower))
            _correct_sizes(module)
    return half


def _correct_sizes(module: nn.Module) -> None:
    """Correct the sizes that a layer reports, after its rows were halved."""
    if isinstance(module, nn.Conv2d):
        module.groups, module.out_channels, module.in_channels = 1, *module.weight.shape[:2]
    elif isinstance(module, nn.Linear):
        module.out_features = module.weight.shape[0]
    elif isinstance(module, LocalResponseNorm):
        module.groups = 1
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = module.weight.shape[0]


def _rows(value: Tensor, tower: int) -> Tensor:
    if not value.ndim:
        return value.detach().clone()
    border = _first_half(len(value))
    rows = value.detach()[border:] if tower else value.detach()[:border]
    return rows.clone()


def _first_half(count: int) -> int:
    return (count + 1) // 2
