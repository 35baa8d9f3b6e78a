"""PyTriton: NVIDIA's Triton with a Python function behind it, and Triton's dynamic batching."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.serving_peers.servers.classifier import BATCH_WAIT_S, FOLDER, NAMED, PORT, Classifier, Facts

if __name__ == "__main__":
    facts = Facts.read(Path(os.environ[FOLDER]))
    classifier = Classifier.of_environment()

    @batch  # type: ignore[untyped-decorator]
    def infer(image: NDArray[np.object_]) -> dict[str, NDArray[np.generic]]:
        """Classify a batch."""
        answers = classifier.classify([one for (one,) in image.tolist()])
        rows = [answer["predictions"] for answer in answers]
        return {
            "label": np.array([[np.char.encode(named["label"], "utf-8") for named in row] for row in rows]),
            "index": np.array([[named["index"] for named in row] for row in rows], dtype=np.int64),
            "probability": np.array([[named["probability"] for named in row] for row in rows], dtype=np.float32),
        }

    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(os.environ[PORT]), allow_grpc=False, allow_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="peer",
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=np.bytes_, shape=(1,))],
            outputs=[
                Tensor(name="label", dtype=np.bytes_, shape=(NAMED,)),
                Tensor(name="index", dtype=np.int64, shape=(NAMED,)),
                Tensor(name="probability", dtype=np.float32, shape=(NAMED,)),
            ],
            config=ModelConfig(
                max_batch_size=facts.max_batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(1e6 * BATCH_WAIT_S)),
            ),
        )
        triton.serve()
