# Written by `make client` from the module of this name in `trainyard.client.asynchronous`; not to be edited.
"""A job with its client: what `train` returns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from trainyard.client.errors import JobFailed
from trainyard.client.images import ImageLike
from trainyard.client.kinds import Json, OnProgress
from trainyard.client.models import Checkpoint, Classification, Evaluation, Job
from trainyard.client.progress import show_training
from trainyard.client.series import Metrics
from trainyard.client.synchronous.requests import Requests


class TrainingJob:
    """A job that can be waited for, looked at and asked. `job.data` is what was last heard of it."""

    def __init__(self, client: Requests, data: Job) -> None:
        self._client = client
        self.data = data

    def __repr__(self) -> str:
        """Return its id, its state and how far it is."""
        progress = self.data["progress"]
        return f"<job {self.id}: {self.state}, epoch {progress['epoch']} of {progress['epochs']}>"

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.data["id"])

    @property
    def state(self) -> str:
        """Its state when it was last looked at."""
        return str(self.data["state"])

    def refresh(self) -> Self:
        """Look at it again."""
        self.data = self._client.get_job(self.id)
        return self

    def wait(
        self,
        *,
        progress: bool = False,
        timeout_s: float | None = None,
        poll_s: float = 0.25,
        on_change: Callable[[Job], None] | None = None,
    ) -> Self:
        """Wait until it has ended.

        Args:
            progress: show a bar, in a notebook too.
            timeout_s: seconds to wait at most; None: as long as it takes.
            poll_s: seconds between two looks.
            on_change: called with the job whenever its state or progress is another.

        Raises:
            JobFailed: it failed or was cancelled.
            TimeoutError: it has not ended yet.
        """
        with show_training(self.id, progress, on_change) as tell:
            self.data = self._client.wait(self.id, timeout_s=timeout_s, poll_s=poll_s, on_change=tell)
        if self.state != "succeeded":
            error = self.data["error"] or {}
            raise JobFailed(self.id, self.state, error.get("code"), error.get("message", "it was stopped on request"))
        return self

    def metrics(self, *, max_points: int = 500) -> Metrics:
        """Return its series, with `to_pandas()` and `plot()`."""
        return self._client.get_metrics(self.id, max_points=max_points)

    def plot(self) -> Any:
        """Return its curves as a figure of Matplotlib, which a notebook shows."""
        return (self.metrics()).plot()

    def logs(self, *, tail: int = 200) -> str:
        """Return the last lines that its trainers wrote."""
        return self._client.get_logs(self.id, tail=tail)

    def checkpoints(self) -> list[Checkpoint]:
        """Return its newest checkpoints."""
        return self._client.list_checkpoints(self.id)

    def evaluation(self, *, split: str | None = None) -> Evaluation:
        """Return how its best checkpoint does; see `Client.get_evaluation`."""
        return self._client.get_evaluation(self.id, split=split)

    def predict(self, image: ImageLike, *, top_k: int = 5, calibrated: bool = False) -> Classification:
        """Classify an image with its best checkpoint."""
        return self._client.predict(image, model=self.id, top_k=top_k, calibrated=calibrated)

    def predict_all(self, images: list[ImageLike], *, top_k: int = 5, calibrated: bool = False) -> list[Classification]:
        """Classify each image of a list with its best checkpoint."""
        return self._client.predict(images, model=self.id, top_k=top_k, calibrated=calibrated)

    def download(
        self,
        target: str | Path,
        *,
        file_format: str = "safetensors",
        progress: bool = False,
        on_received: OnProgress | None = None,
    ) -> None:
        """Download its best checkpoint as a tar into a file.

        Raises:
            ValueError: it has no checkpoint yet.
        """
        data = (self.refresh()).data
        checkpoint = (data["best"] or {}).get("checkpoint") or data["latest_checkpoint"]
        if checkpoint is None:
            raise ValueError(f"job {self.id} has no checkpoint yet")
        self._client.download_to(
            checkpoint, target, file_format=file_format, progress=progress, on_received=on_received
        )

    def pause(self) -> Self:
        """Pause it: it writes a checkpoint and frees its slot."""
        self.data = self._client.pause_job(self.id)
        return self

    def resume(self) -> Self:
        """Put it back into the queue."""
        self.data = self._client.resume_job(self.id)
        return self

    def cancel(self) -> Self:
        """Ask for it to be stopped for good."""
        self.data = self._client.cancel_job(self.id)
        return self

    def retry(self, *, origin: str = "latest", overrides: Json | None = None) -> TrainingJob:
        """Train it again, as a new job; see `Client.retry_job`."""
        return TrainingJob(self._client, self._client.retry_job(self.id, origin=origin, overrides=overrides))

    def delete(self) -> None:
        """Remove it with its checkpoints."""
        self._client.delete_job(self.id)
