"""BentoML: a service with adaptive batching, `bentoml serve bench.serving_peers.servers.bentoml_server:Peer`.

A batchable method takes a list, so a request is a JSON list with one image in base64.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import bentoml

from bench.serving_peers.servers.classifier import FOLDER, Answer, Classifier, Facts

_FACTS = Facts.read(Path(os.environ[FOLDER]))


@bentoml.service(
    workers=1, traffic={"timeout": 120}, logging={"access": {"enabled": False}}, metrics={"enabled": False}
)
class Peer:
    """The service."""

    def __init__(self) -> None:
        self.classifier = Classifier.of_environment()

    @bentoml.api(batchable=True, max_batch_size=_FACTS.max_batch, max_latency_ms=10_000)  # type: ignore[untyped-decorator]
    def predict(self, images: list[str]) -> list[Answer]:
        """Classify a batch."""
        return self.classifier.classify([base64.b64decode(image) for image in images])
