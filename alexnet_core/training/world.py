"""The processes of a run: a single one, or several that compute together and agree on what to do next.

The batch size of a run is that of all processes together. With `Processes` each computes its share of a batch and
gradients are averaged (data parallel). With two towers each holds half of the network and sees the whole batch (model
parallel, Krizhevsky 2012, section 3.2). Only the first process validates, reports and writes checkpoints. Whatever
depends on a clock or a signal is agreed upon once in each step, by a message of one number over CPU memory, so that all
processes end at the same step. If a process dies, the others lose their connections to it, and torchrun ends them.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alexnet_core.config import TrainConfig
from alexnet_core.errors import ConfigError, CoreError
from alexnet_core.network.model import AlexNet
from alexnet_core.network.towers import DeviceLink, ProcessLink, TowerNetwork, join_towers, split_tensors, split_towers

_PATIENCE = timedelta(days=7)  # of processes that wait for the first one's validation; a death is noticed at once
_LEAVING_S = 0.2  # many times what a thread needs to let go of a tensor

Named = Mapping[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """A process's part of a batch."""

    rows: slice  #: never empty: where there are fewer images than processes, the others compute one for nothing
    weight: float  #: of the mean loss over these rows, so that the processes' average is the mean over the batch


@dataclass(frozen=True)
class Placed:
    """A network as it is spread over devices and processes."""

    network: nn.Module  #: from a share of a batch to its logits
    trained: nn.Module  #: holds the parameters
    collect: Callable[[Named], dict[str, Tensor]]  #: from `trained`'s names and halves to the plain network's
    pick: Callable[[Named], dict[str, Tensor]]  #: the way back; for weights and for the optimiser's buffers


class World:
    """A run in a single process, with nothing to share or to agree on."""

    rank = 0
    size = 1

    def __init__(self, device: str = "cpu") -> None:
        self.device = device  #: where this process computes

    @property
    def is_first(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    @property
    def shares(self) -> int:
        """Into how many shares a batch is divided."""
        return 1

    def describe(self) -> dict[str, Any]:
        """Describe the processes for the environment, as the resulting bits depend on them."""
        return {"world_size": self.size}

    def check(self, config: TrainConfig) -> None:
        """Check that these processes can train that network.

        Raises:
            ConfigError: it can't.
        """

    def share_of(self, num_images: int) -> Share:
        """Return this process's share of a batch of this many images."""
        return Share(slice(0, num_images), 1.0)

    def place(self, model: AlexNet, x_BCHW: Tensor) -> Placed:
        """Make a network ready for training here; `x_BCHW` is any input for it."""
        return Placed(model, model, dict, dict)

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over the batch's shares, which is the same in every process."""
        return value

    def agree(self, flags: int) -> int:
        """Return all bits that any process has set."""
        return flags

    def first(self, action: Callable[[], T]) -> T:
        """Return in every process what this call returns in the first one; a `CoreError` is raised in all."""
        return action()


class Processes(World):
    """Several processes, each of which computes its share of every batch."""

    def __init__(self, rank: int, size: int, device: str) -> None:
        super().__init__(device)
        self.rank, self.size = rank, size
        self._control = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=_PATIENCE))

    def leave(self) -> None:
        """Leave the group of processes; nothing can be exchanged afterwards.

        If a thread of gloo still releases a tensor when Python ends, it aborts this process. So it gets time to finish,
        and ends with the last reference to its group.
        """
        dist.destroy_process_group()
        del self._control
        gc.collect()
        time.sleep(_LEAVING_S)

    @property
    def shares(self) -> int:
        """The number of processes."""
        return self.size

    def check(self, config: TrainConfig) -> None:
        """See `World.check`."""
        if config.norm == "batch" and not self.device.startswith("cuda"):
            raise ConfigError(
                f"norm batch needs the statistics of the whole batch, and {self.size} processes can exchange them on "
                "GPUs only: use one process, or another norm",
                param="overrides.norm",
            )
        if config.batch_size < self.size:
            raise ConfigError(
                f"a batch_size of {config.batch_size} can't be shared by {self.size} processes", param="batch_size"
            )

    def share_of(self, num_images: int) -> Share:
        """Return this process's share. If the images don't divide evenly, the first processes get one more."""
        each, rest = divmod(num_images, self.size)
        start, length = self.rank * each + min(self.rank, rest), each + (self.rank < rest)
        return Share(slice(start, start + length) if length else slice(0, 1), length * self.size / num_images)

    def place(self, model: AlexNet, x_BCHW: Tensor) -> Placed:
        """Use the network in place; gradients are averaged during the backward pass."""
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch has no types for it
        network = DistributedDataParallel(
            model, device_ids=[torch.device(self.device)] if on_gpu else None, forward_sync_buffers=False,
            gradient_as_bucket_view=True,
        )  # fmt: skip
        _settle(network, x_BCHW)
        return Placed(network, model, dict, dict)

    def total(self, value: Tensor) -> Tensor:
        """See `World.total`."""
        value = value.clone()
        dist.all_reduce(value)
        return value

    def agree(self, flags: int) -> int:
        """See `World.agree`."""
        message = torch.tensor(flags)
        dist.all_reduce(message, dist.ReduceOp.BOR, group=self._control)
        return int(message)

    def first(self, action: Callable[[], T]) -> T:
        """See `World.first`."""
        outcome: list[Any] = [None]  # what the action returned and what it raised, one of them None
        value: T
        error: CoreError | None
        if self.is_first:
            try:
                outcome = [(action(), None)]
            except CoreError as exc:
                outcome = [(None, exc)]
        dist.broadcast_object_list(outcome, src=0, group=self._control)
        value, error = outcome[0]
        if error is not None:
            raise error
        return value


class TowerDevices(World):
    """One process and two devices, each with half of the network; images and logits are on the first."""

    def __init__(self, devices: tuple[str, str]) -> None:
        super().__init__(devices[0])
        self._link = DeviceLink(tuple(torch.device(device) for device in devices))

    def describe(self) -> dict[str, Any]:
        """See `World.describe`."""
        return {"world_size": 1, "towers": True}

    def check(self, config: TrainConfig) -> None:
        """See `World.check`."""
        _check_towers(config)

    def place(self, model: AlexNet, x_BCHW: Tensor) -> Placed:
        """Copy the network to the towers; `model` is not changed."""
        network = TowerNetwork(split_towers(model), self._link)
        return Placed(network, network, _collect, partial(_pick, towers=(0, 1)))


class TowerProcesses(Processes):
    """Two processes, each with half of the network; both see the whole batch and compute the loss."""

    def __init__(self, rank: int, size: int, device: str) -> None:
        if size != 2:
            raise ConfigError(f"two towers need 2 processes: there are {size}", param="towers")
        super().__init__(rank, size, device)

    @property
    def shares(self) -> int:
        """1: every process sees the whole batch."""
        return 1

    def describe(self) -> dict[str, Any]:
        """See `World.describe`."""
        return super().describe() | {"towers": True}

    def check(self, config: TrainConfig) -> None:
        """See `World.check`."""
        _check_towers(config)

    def share_of(self, num_images: int) -> Share:
        """Return the whole batch."""
        return World.share_of(self, num_images)

    def place(self, model: AlexNet, x_BCHW: Tensor) -> Placed:
        """Copy the network to this process's tower; `model` is not changed."""
        link = ProcessLink(self.rank, torch.device(self.device))
        network = TowerNetwork(split_towers(model), link)
        return Placed(network, network, lambda own: _collect(self._exchange(own)), partial(_pick, towers=(self.rank,)))

    def total(self, value: Tensor) -> Tensor:
        """Return the value, which is already the same in both."""
        return value

    def _exchange(self, own: Named) -> dict[str, Tensor]:
        """Return both processes' tensors, in CPU memory."""
        shapes: list[Any] = [None] * self.size
        described = {name: (value.shape, value.dtype) for name, value in own.items()}
        dist.all_gather_object(shapes, described, group=self._control)
        tensors = {}
        for rank, tower in enumerate(shapes):
            for name, (shape, dtype) in tower.items():
                mine = rank == self.rank
                value = own[name].detach().cpu().contiguous() if mine else torch.empty(shape, dtype=dtype)
                dist.broadcast(value, src=rank, group=self._control)
                tensors[name] = value
        return tensors


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether the error means that another process can't be reached: it or its machine has died.

    gloo raises a plain `RuntimeError` that names its own source file.
    """
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


@contextmanager
def join(environment: Mapping[str, str], device: str = "cpu", *, towers: bool = False) -> Iterator[World]:
    """Return the world that this process is part of.

    Args:
        environment: with torchrun's variables, or without: then this process is alone.
        device: `cpu`, or `cuda`: the GPU of this process's number on its machine. Two, with a comma between: a tower
            on each.
        towers: have each of two processes hold half of the network.

    Raises:
        ConfigError: there is nothing of the kind here.
    """
    size, devices = _read_size(environment), device.split(",")
    if size == 1:
        if len(devices) > 2 or (towers and len(devices) != 2):
            raise ConfigError(f"device is {device}: two towers need two, as in cuda:0,cuda:1", param="device")
        yield TowerDevices((devices[0], devices[1])) if len(devices) == 2 else World(device)
        return
    if device not in {"cpu", "cuda"}:
        raise ConfigError(f"device is {device}: with several processes it is cpu or cuda, and each has its own")
    _require_torchrun(environment)
    if device == "cuda":
        device = f"cuda:{environment.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device == "cpu" else "nccl")
    world = (TowerProcesses if towers else Processes)(int(environment["RANK"]), size, device)
    yield world
    world.leave()  # only at a good end: at a bad one the others may be gone, and it would wait for them


def _read_size(environment: Mapping[str, str]) -> int:
    """Return the number of processes; 1 without torchrun's variables."""
    text = environment.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise _no_torchrun(f"is {text!r}")
    return int(text)


def _require_torchrun(environment: Mapping[str, str]) -> None:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise _no_torchrun(f"stands there without {', '.join(missing)}")


def _no_torchrun(trouble: str) -> ConfigError:
    return ConfigError(f"WORLD_SIZE in the environment {trouble}: start several processes with torchrun, or unset it")


def _settle(network: DistributedDataParallel, x_BCHW: Tensor) -> None:
    """Run one step without an update.

    Until the first step gradients are gathered for the exchange in another way than afterwards, and with three
    processes or more this changes the last bit: a resumed run would differ from one that was not stopped.
    """
    was_training = network.training
    network.eval()
    network(x_BCHW).sum().backward()
    network.zero_grad(set_to_none=True)
    network.train(was_training)  # type: ignore[no-untyped-call]  # torch has no types for it


def _check_towers(config: TrainConfig) -> None:
    if config.groups != 2:
        raise ConfigError("two towers need a network with groups 2: choose that or another recipe", param="groups")
    if config.precision == "fp16":
        raise ConfigError("two towers can't agree on fp16's loss scale: use bf16 or fp32", param="overrides.precision")


def _collect(tensors: Named) -> dict[str, Tensor]:
    halves: list[dict[str, Tensor]] = [{}, {}]
    for key, value in tensors.items():
        _, number, name = key.split(".", 2)
        halves[int(number)][name] = value
    return join_towers(halves)


def _pick(tensors: Named, towers: Iterable[int]) -> dict[str, Tensor]:
    return {f"towers.{n}.{name}": value for n in towers for name, value in split_tensors(tensors, n).items()}
