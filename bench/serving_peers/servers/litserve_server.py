"""LitServe: an HTTP process, and a worker that computes batches. ZeroMQ is between them, as its guide advises."""

import os
from pathlib import Path
from typing import Annotated, Any

import litserve
from fastapi import Body

from bench.serving_peers.servers.classifier import BATCH_WAIT_S, FOLDER, PORT, Answer, Classifier, Facts


class Api(litserve.LitAPI):  # type: ignore[misc]
    """What LitServe asks for."""

    def setup(self, device: str) -> None:
        """Load the network, in the worker."""
        self.classifier = Classifier.of_environment()

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> bytes:
        """Return the image as it came; it is decoded with the others of its batch."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Keep the images of a batch as they are."""
        return inputs

    def predict(self, images: list[bytes]) -> list[Answer]:
        """Classify a batch."""
        return self.classifier.classify(images)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """Keep the answers of a batch as they are."""
        return output

    def encode_response(self, output: Answer) -> Any:
        """Return the answer, a JSON object."""
        return output


if __name__ == "__main__":
    facts = Facts.read(Path(os.environ[FOLDER]))
    api = Api(max_batch_size=facts.max_batch, batch_timeout=BATCH_WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True, timeout=120)
    server.run(
        host="127.0.0.1",
        port=int(os.environ[PORT]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
