"""What computes networks: OpenVINO on CPUs, and torch for what OpenVINO can't compute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alexnet_core.errors import ExportUnsupported
from alexnet_core.inference.mapped_file import Scratch
from api.garbage import keep_what_is_there
from api.serving.batch_sizes import round_batch_up
from api.serving.batching import Model, Rows
from api.thread_count import choose_threads
from trainyard.settings import Settings

if TYPE_CHECKING:
    from alexnet_core.inference.compiled_network import CompiledNetwork, Compiler
    from alexnet_core.network.input_transform import InputTransform

log = logging.getLogger(__name__)


def go_on() -> None:
    """Make no pause."""


class Runtime(Protocol):
    """Makes models from checkpoint folders."""

    def start(self, pause: Callable[[], object] = go_on) -> None:
        """Load once what takes long, in the loading thread.

        Args:
            pause: called in that thread between two pieces of each load.
        """
        ...

    def load(self, folder: Path) -> Model:
        """Return a verified model that is ready to predict.

        Raises:
            CheckpointError: the folder's files are not what they should be.
        """
        ...

    def load_exactly(self, folder: Path) -> Model:
        """Return the model of a folder that was loaded before, computed in fp32."""
        ...


def build_runtime(settings: Settings) -> Runtime:
    """Build what computes networks as the settings say; for their weights it uses no room that uploads leave free."""
    scratch = Scratch(settings.data_dir, settings.min_free_disk_bytes)
    return OpenVinoRuntime(settings.serving_threads, settings.serving_precision, scratch)


class OpenVinoRuntime:
    """Computes on the CPU without torch. A network that OpenVINO can't compute is left to torch."""

    def __init__(self, threads: int | None, precision: str = "auto", scratch: Scratch | None = None) -> None:
        """Make it; see `Compiler` for what it takes."""
        self._threads, self._precision, self._scratch = choose_threads(threads), precision, scratch
        self._compiler: Compiler | None = None
        self._torch: TorchRuntime | None = None
        self._pause: Callable[[], object] = go_on

    def start(self, pause: Callable[[], object] = go_on) -> None:
        """See `Runtime`."""
        self._pause = pause
        try:
            from alexnet_core.inference.compiled_network import Compiler
        except ImportError as exc:
            log.warning("OpenVINO can't be used, so torch computes", extra={"detail": str(exc)})
            self._use_torch()
            return
        self._compiler = Compiler(self._threads, self._precision, self._scratch)
        keep_what_is_there()

    def load(self, folder: Path) -> Model:
        """See `Runtime`."""
        return self._load(folder, None)

    def load_exactly(self, folder: Path) -> Model:
        """See `Runtime`."""
        return self._load(folder, "fp32")

    def _load(self, folder: Path, precision: str | None) -> Model:
        if self._compiler is not None:
            try:
                return OpenVinoModel(self._compiler.load(folder, precision=precision, pause=self._pause))
            except ExportUnsupported as exc:
                log.warning("a network is computed by torch", extra={"detail": str(exc)})
        return self._use_torch().load(folder)

    def _use_torch(self) -> TorchRuntime:
        if self._torch is None:
            self._torch = TorchRuntime(self._threads)
            self._torch.start()
        return self._torch


class OpenVinoModel:
    """A loaded checkpoint that OpenVINO computes."""

    def __init__(self, network: CompiledNetwork) -> None:
        self.network = network

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Model`."""
        return self.network.class_names

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """See `Model`."""
        return _input_shape(self.network.transform)

    @property
    def precision(self) -> str:
        """See `Model`."""
        return self.network.precision.name

    def take_input(self, values_CHW: NDArray[np.float32]) -> Any:
        """See `Model`."""
        return values_CHW

    def preprocess(self, image: Any) -> Any:
        """See `Model`."""
        return self.network.preprocess(image)

    def compute(self, inputs: list[Any]) -> Rows:
        """See `Model`."""
        return to_rows(self.network.logits(np.stack(_fill(inputs)))[: len(inputs)])


class TorchRuntime:
    """Runs `alexnet_core.evaluation.predictor` on the CPU; imports torch at `start`, not before."""

    def __init__(self, threads: int | None) -> None:
        self._threads = choose_threads(threads)

    def start(self, pause: Callable[[], object] = go_on) -> None:
        """See `Runtime`; torch's loads make no pauses."""
        import alexnet_core.evaluation.predictor  # noqa: F401 - so that the first load finds it loaded

        keep_what_is_there()

    def load(self, folder: Path) -> Model:
        """See `Runtime`."""
        return TorchModel(folder, self._threads)

    def load_exactly(self, folder: Path) -> Model:
        """See `Runtime`."""
        return self.load(folder)


class TorchModel:
    """A loaded checkpoint that torch computes."""

    def __init__(self, folder: Path, threads: int) -> None:
        from alexnet_core.evaluation.predictor import Predictor

        self._threads = threads
        self._predictor = Predictor.load(folder, device="cpu")
        self._predictor.warm((1,))

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Model`."""
        return tuple(self._predictor.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """See `Model`."""
        return _input_shape(self._predictor.preprocessing)

    @property
    def precision(self) -> str:
        """See `Model`."""
        return "fp32"

    def take_input(self, values_CHW: NDArray[np.float32]) -> Any:
        """See `Model`."""
        import torch

        return torch.from_numpy(values_CHW.copy())  # torch wants it writable

    def preprocess(self, image: Any) -> Any:
        """See `Model`."""
        return self._predictor.preprocess(image)

    def compute(self, inputs: list[Any]) -> Rows:
        """See `Model`."""
        import torch

        if torch.get_num_threads() != self._threads:  # torch keeps the number separately for each calling thread
            torch.set_num_threads(self._threads)
        return to_rows(self._predictor.logits(torch.stack(_fill(inputs)))[: len(inputs)].numpy())


def _input_shape(transform: InputTransform) -> tuple[int, int, int]:
    return transform.channels, transform.image_px, transform.image_px


def to_rows(logits_BK: NDArray[np.floating[Any]]) -> Rows:
    """Return the probabilities of each row, and the logarithm of its summed exponentials."""
    highest_B1 = logits_BK.max(axis=1, keepdims=True)
    powers_BK = np.exp(logits_BK.astype(np.float64) - highest_B1)
    sums_B1 = powers_BK.sum(axis=1, keepdims=True)
    log_sums_B = np.log(sums_B1[:, 0]) + highest_B1[:, 0]
    return Rows(powers_BK / sums_B1, log_sums_B.tolist())


def _fill(inputs: list[Any]) -> list[Any]:
    """Fill a batch up to the size that it is computed in."""
    return [*inputs, *inputs[:1] * (round_batch_up(len(inputs)) - len(inputs))]
