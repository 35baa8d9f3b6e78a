"""Ray Serve: one proxy, one replica, and `serve.batch`."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import ray
from ray import serve
from starlette.requests import Request

from bench.serving_peers.servers.classifier import BATCH_WAIT_S, FOLDER, PORT, Answer, Classifier, Facts

FACTS = Facts.read(Path(os.environ[FOLDER]))
CORES = os.cpu_count() or 1  # for the replica; Ray gives PyTorch as many threads
LOOPBACK = "bench.serving_peers.servers.ray_loopback.listen_on_loopback"
STORE_BYTES = 100_000_000  # of shared memory, near the least that Ray takes; answers are small


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": CORES})
class Peer:
    """The replica."""

    def __init__(self) -> None:
        self.classifier = Classifier.of_environment()

    async def __call__(self, request: Request) -> Answer:
        """Classify the image that is the request's body."""
        answer: Answer = await self.classify(await request.body())
        return answer

    @serve.batch(max_batch_size=FACTS.max_batch, batch_wait_timeout_s=BATCH_WAIT_S)  # type: ignore[untyped-decorator]
    async def classify(self, images: list[bytes]) -> list[Answer]:
        """Classify a batch."""
        return self.classifier.classify(images)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=CORES,
            object_store_memory=STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            log_to_driver=False,
            runtime_env={"worker_process_setup_hook": LOOPBACK},
        )
        serve.start(
            http_options={"host": "127.0.0.1", "port": int(os.environ[PORT])},
            logging_config={"enable_access_log": False},
        )
        serve.run(Peer.bind())  # type: ignore[attr-defined]
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        serve.shutdown()
        ray.shutdown()
