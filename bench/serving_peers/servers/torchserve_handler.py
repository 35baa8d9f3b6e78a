"""TorchServe: a handler that its Java frontend gives batches to."""

from __future__ import annotations

from typing import Any

from bench.serving_peers.servers.classifier import Answer, Classifier


class Handler:
    """The handler."""

    def initialize(self, context: Any) -> None:
        """Load the network, in TorchServe's worker process."""
        self.classifier = Classifier.of_environment()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Answer]:
        """Classify a batch."""
        return self.classifier.classify([bytes(request.get("body") or request["data"]) for request in data])
