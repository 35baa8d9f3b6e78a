"""Computes a network with OpenVINO, in the precision that is fastest where it runs.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13

from alexnet_core.data.squares import Pixels
from alexnet_core.inference.graph import build_graph
from alexnet_core.inference.layers import list_layers
from alexnet_core.inference.mapped_file import Scratch, give_back
from alexnet_core.inference.pixels import to_input
from alexnet_core.inference.stored_network import StoredNetwork, read_network

PRECISIONS = ("fp32", "bf16")
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_WORTH = 1.1  # times the speed of fp32, below which fp32's digits are worth more
_ROUNDS = 3  # at least
_MEASURE_S = 0.4  # for more of them: on busy cores the fastest of three says little
_MEASURED_BATCH = 16
_START_SIDE = 512  # of a product that is worth several threads


@dataclass(frozen=True)
class Precision:
    """The precision that a network computes in, and why."""

    name: str  #: `fp32` or `bf16`
    speed: Mapping[str, float]  #: measured images/s in each, if it was measured


class CompiledNetwork:
    """A network that is ready to compute. Its methods may be called in any thread, `logits` in one at a time."""

    def __init__(self, stored: StoredNetwork, precision: Precision, compiled: ov.CompiledModel) -> None:
        self.class_names, self.transform, self.metadata = stored.class_names, stored.transform, stored.metadata
        self.precision = precision
        self.num_values = sum(values.size for values in stored.weights.values())
        self._request = compiled.create_infer_request()

    @property
    def size_bytes(self) -> int:
        """About how much memory its weights take."""
        return self.num_values * (2 if self.precision.name == "bf16" else 4)

    def preprocess(self, image: Pixels) -> NDArray[np.float32]:
        """Return the input_CHW of one decoded image: see `pixels.to_input`."""
        return to_input(self.transform, image)

    def logits(self, batch_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits_BK."""
        # With inputs, `infer` copies them and takes 40 us longer: as much as to decode a small image. So it reads the
        # memory of the array itself, which this variable keeps: of a batch with other strides it is a copy
        contiguous_BCHW = np.ascontiguousarray(batch_BCHW)
        self._request.set_input_tensor(ov.Tensor(contiguous_BCHW, shared_memory=True))
        self._request.infer(share_outputs=True)
        logits_BK: NDArray[np.float32] = self._request.get_output_tensor().data.copy()
        return logits_BK

    def warm(self, batch_sizes: Iterable[int]) -> None:
        """Compute batches of these sizes, so that no caller waits for what is done at first use."""
        side, channels = self.transform.image_px, self.transform.channels
        for size in batch_sizes:
            self.logits(np.zeros((size, channels, side, side), dtype=np.float32))


class Compiler:
    """Compiles networks for this machine, and remembers which precision is faster for each kind of network.

    Args:
        threads: that compute a batch.
        precision: `auto` measures; `fp32` or `bf16` is taken as it is.
        scratch: where files lie with the weights of networks that are in use, which then take less memory.
    """

    def __init__(self, threads: int, precision: str = "auto", scratch: Scratch | None = None) -> None:
        self._core, self._wanted, self._scratch = ov.Core(), precision, scratch
        # Pinned, the thread that computes is moved to the first core for each batch, whoever is there, and back again
        self._options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        self._start_threads()
        self._chosen: dict[object, Precision] = {}  #: by layers and shapes
        self._lock = Lock()

    def _start_threads(self) -> None:
        """Let OpenVINO start its threads now: they have the priority of whoever computes first, and keep it."""
        values = opset13.parameter([_START_SIDE, _START_SIDE], np.float32)
        model = ov.Model([opset13.result(opset13.matmul(values, values, False, True))], [values], "start")
        self._core.compile_model(model, "CPU", self._options)([np.ones((_START_SIDE, _START_SIDE), np.float32)])

    def load(
        self, folder: Path, *, precision: str | None = None, pause: Callable[[], object] = lambda: None
    ) -> CompiledNetwork:
        """Verify a checkpoint's folder and compile its network.

        Args:
            folder: the checkpoint's.
            precision: see `compile`.
            pause: called often between two pieces of the work, for whoever shares the cores with the caller.

        Raises:
            CheckpointCorrupt: a file is missing, damaged or unreadable.
            CheckpointIncompatible: another version of this program wrote it, or its weights don't fit its config.
            ExportUnsupported: OpenVINO can't compute a layer of it.
        """
        return self.compile(read_network(folder, self._scratch, pause), precision=precision, pause=pause)

    def compile(
        self, stored: StoredNetwork, *, precision: str | None = None, pause: Callable[[], object] = lambda: None
    ) -> CompiledNetwork:
        """Compile a network, in this precision or in the one that this machine computes it fastest in."""
        wanted = precision or self._wanted
        if wanted != "auto":
            return self._compile(stored, Precision(wanted, {}), pause)
        shapes = tuple(sorted((name, values.shape) for name, values in stored.weights.items()))
        kind = (tuple(list_layers(stored.config)), shapes)
        with self._lock:
            if (chosen := self._chosen.get(kind)) is not None:
                return self._compile(stored, chosen, pause)
            networks = {name: self._compile(stored, Precision(name, {}), pause) for name in PRECISIONS}
            speed = _measure(networks)
            name = "bf16" if speed["bf16"] >= _WORTH * speed["fp32"] else "fp32"
            networks[name].precision = self._chosen[kind] = Precision(name, speed)
            return networks[name]

    def _compile(self, stored: StoredNetwork, precision: Precision, pause: Callable[[], object]) -> CompiledNetwork:
        options = {**self._options, "INFERENCE_PRECISION_HINT": _HINTS[precision.name]}
        graph = build_graph(stored)
        pause()
        compiled = self._core.compile_model(graph, "CPU", options)
        pause()
        network = CompiledNetwork(stored, precision, compiled)
        network.warm([1])  # which puts the weights in the order that the products want
        if stored.mapping is not None:
            give_back(stored.mapping)
        return network


def _measure(networks: Mapping[str, CompiledNetwork]) -> dict[str, float]:
    """Measure images/s of networks in turns; the fastest batch of each counts."""
    best = dict.fromkeys(networks, float("inf"))
    for network in networks.values():
        network.warm([_MEASURED_BATCH])
    over, rounds = time.perf_counter() + _MEASURE_S, 0
    while rounds < _ROUNDS or time.perf_counter() < over:
        rounds += 1
        for name, network in networks.items():
            began = time.perf_counter()
            network.warm([_MEASURED_BATCH])
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: _MEASURED_BATCH / seconds for name, seconds in best.items()}
