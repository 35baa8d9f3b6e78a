"""What every peer serves: decodes images, computes the network in batches, and names the five most probable classes.

It is written as well as we can for a CPU, and is the same for all of them: JPEG and PNG are decoded by torchvision,
resizing is antialiased on bytes, the images of a batch are prepared by as many threads as there are cores.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as V  # noqa: N812

from bench.serving_peers.servers.networks import BUILDERS, LAYOUTS

NAMED = 5  #: classes in an answer
BATCH_WAIT_S = 0.005  #: how long a peer may wait for a batch to fill, where it has such an option
FOLDER, ENGINE, PORT = "PEER_FOLDER", "PEER_ENGINE", "PEER_PORT"  #: environment variables of a server
FACTS, WEIGHTS, GRAPH = "facts.json", "weights.safetensors", "network.onnx"  #: files in a server's folder

Answer = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Facts:
    """What there is to know of a network besides its weights."""

    recipe: str
    image_px: int
    resize_px: int | None  #: side of the middle square before `image_px` is cut out; None: the image has the right size
    mean: list[float]  #: by channel, 0..255
    std: list[float]  #: by channel, 0..255
    class_names: list[str]
    max_batch: int  #: images that a peer should put together at most

    def write(self, folder: Path) -> None:
        """Write them for `read`."""
        (folder / FACTS).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Return what was written."""
        return cls(**json.loads((folder / FACTS).read_text()))


class Classifier:
    """Classifies encoded images, several at a time.

    Args:
        folder: with facts and weights, or a graph for OpenVINO.
        engine: `torch` (fp32) or `openvino` (bf16).
    """

    def __init__(self, folder: Path, engine: str) -> None:
        self._facts = Facts.read(folder)
        self._mean_C11 = torch.tensor(self._facts.mean)[:, None, None]
        self._std_C11 = torch.tensor(self._facts.std)[:, None, None]
        self._compute = {"torch": _load_torch, "openvino": _load_openvino}[engine](folder, self._facts)
        self._threads = ThreadPoolExecutor(os.cpu_count())

    @classmethod
    def of_environment(cls) -> Classifier:
        """Load what the environment variables name."""
        return cls(Path(os.environ[FOLDER]), os.environ[ENGINE])

    def classify(self, images: Sequence[bytes]) -> list[Answer]:
        """Return the answer for each image."""
        return self.answer(self.compute(self.prepare(images)))

    def prepare(self, images: Sequence[bytes]) -> Tensor:
        """Decode and standardise images to the network's input_BCHW."""
        if len(images) == 1:
            return self._prepare_one(images[0])[None]
        return torch.stack(list(self._threads.map(self._prepare_one, images)))

    def compute(self, x_BCHW: Tensor) -> Tensor:
        """Return the logits_BK of prepared images."""
        logits_BK: Tensor = self._compute(x_BCHW)
        return logits_BK

    def answer(self, logits_BK: Tensor) -> list[Answer]:
        """Return the most probable classes of each image."""
        top = logits_BK.softmax(dim=1).topk(NAMED, dim=1)
        return [
            {
                "predictions": [
                    {"label": self._facts.class_names[index], "index": index, "probability": probability}
                    for index, probability in zip(indices, probabilities, strict=True)
                ]
            }
            for indices, probabilities in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]

    def _prepare_one(self, image: bytes) -> Tensor:
        pixels_CHW = decode_image(torch.frombuffer(bytearray(image), dtype=torch.uint8), ImageReadMode.RGB)
        if self._facts.resize_px is not None:
            pixels_CHW = V.center_crop(pixels_CHW, [min(pixels_CHW.shape[1:])])  # less to resize than the whole
            pixels_CHW = V.resize(pixels_CHW, [self._facts.resize_px], antialias=True)
            pixels_CHW = V.center_crop(pixels_CHW, [self._facts.image_px])
        x_CHW: Tensor = (pixels_CHW - self._mean_C11) / self._std_C11
        return x_CHW


def _load_torch(folder: Path, facts: Facts) -> Callable[[Tensor], Tensor]:
    from safetensors.torch import load_file

    network = BUILDERS[facts.recipe](len(facts.class_names)).eval()
    network.load_state_dict(load_file(folder / WEIGHTS))
    layout = LAYOUTS[facts.recipe]
    network = network.to(memory_format=layout)

    @torch.inference_mode()
    def compute(x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = network(x_BCHW.contiguous(memory_format=layout))
        return logits_BK

    return compute


def _load_openvino(folder: Path, facts: Facts) -> Callable[[Tensor], Tensor]:
    import openvino

    how = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    network = openvino.Core().compile_model(folder / GRAPH, "CPU", how)
    of_thread = threading.local()  # a request can't compute for two threads at once

    def compute(x_BCHW: Tensor) -> Tensor:
        if not hasattr(of_thread, "request"):
            of_thread.request = network.create_infer_request()
        return torch.from_numpy(of_thread.request.infer([x_BCHW.numpy()])[0].copy())

    return compute
