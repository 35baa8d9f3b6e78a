"""MLServer: a runtime of our own with adaptive batching, which talks the Open Inference Protocol in JSON."""

from __future__ import annotations

import json
from typing import Any

from mlserver import MLModel
from mlserver.codecs import Base64Codec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.serving_peers.servers.classifier import Classifier


class Peer(MLModel):  # type: ignore[misc]
    """The runtime."""

    async def load(self) -> bool:
        """Load the network, in MLServer's worker process."""
        self.classifier = Classifier.of_environment()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Classify a batch, which MLServer has put together from several requests."""
        images: list[Any] = Base64Codec.decode_input(payload.inputs[0])
        answers = [json.dumps(answer) for answer in self.classifier.classify(images)]
        output = StringCodec.encode_output("answer", answers)
        return InferenceResponse(model_name=self.name, outputs=[output])
